"""The command line: one file per command. Nothing here imports torch before it is needed."""

import io
import sys
from typing import Annotated

import typer

from compress import __version__
from compress.cli.bench import bench
from compress.cli.check import check
from compress.cli.choose import choose
from compress.cli.compare import compare
from compress.cli.eval import evaluate
from compress.cli.gallery import gallery
from compress.cli.init import init
from compress.cli.predict import predict
from compress.cli.profile import profile
from compress.cli.recipes import recipes
from compress.cli.report import report
from compress.cli.run import run
from compress.cli.schema import schema
from compress.cli.search import search
from compress.utils.errors import UserError

app = typer.Typer(
    name="compress",
    help="Makes image models faster and says, measured on the deployed file, what it cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"compress {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take what stands before any command."""


app.command()(init)
app.command()(run)
app.command()(search)
app.command()(choose)
app.command()(report)
app.command()(compare)
app.command("eval")(evaluate)
app.command()(predict)
app.command()(gallery)
app.command()(profile)
app.command()(bench)
app.command()(check)
app.command()(recipes)
app.command()(schema)


def main() -> None:
    """Entry point: user errors exit 2 without a traceback (3: nothing fits; 4: it got worse;
    5: candidates failed). Where a terminal or pipe is not UTF-8, what it cannot show is a `?`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where a window has no terminal
            stream.reconfigure(errors="replace")
    try:
        app()
    except UserError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # no permission, no space for a log: the system's own sentence
        where = f"{error.filename}: " if error.filename else ""
        what = error.strerror or error
        typer.echo(f"Error: {where}{what}. Give a path that you may read and write.", err=True)
        sys.exit(UserError.exit_code)
