"""`compress predict`: what is on these pictures?"""

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Model, Spec, Threads
from compress.errors import UserError


def predict(
    artifact: Model,
    pictures: Annotated[list[Path], typer.Argument(help="Pictures.")],
    threads: Threads = None,
    spec: Spec = None,
) -> None:
    """The five most probable names of each picture."""
    from compress.evaluate import predict_files
    from compress.report.units import percent

    failed = 0
    for picture, names in zip(
        pictures, predict_files(artifact, pictures, threads, spec), strict=True
    ):
        typer.echo(f"{picture}")
        if isinstance(names, UserError):
            typer.echo(f"  {names}", err=True)
            failed += 1
            continue
        for name, probability in names:
            typer.echo(f"  {percent(probability):>7}  {name}")
    if failed:
        raise UserError(f"{failed} of {len(pictures)} pictures could not be read.")
