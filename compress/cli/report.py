"""`compress report`: one report of several runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.analysis.budget import Budget
from compress.analysis.summary import summarise
from compress.cli.budget_options import takes_budget
from compress.report.terminal import show
from compress.results.merge import load
from compress.utils.errors import UserError
from compress.utils.text import plain

if TYPE_CHECKING:
    from compress.results.search import Search


@takes_budget
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run or report folders, or results.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("reports/joined"),
    budget: Budget | None = None,
) -> None:
    """Write report.md, report.html, pareto.csv and the image of the front for several runs.

    With one bound or more, as `choose` takes them, it names the model that meets all of them.
    Results of different machines are refused: they cannot be compared.
    """
    rows, failed, damaged = load(runs)
    summary = summarise(rows, budget)
    show(summary, failed=failed)
    from compress.report.write import write_report  # here: altair takes a while to load

    title = ", ".join(sorted({row.recipe for row in rows}))
    write_report(summary, out, title, damaged, failed, _search_of(runs))
    for line in damaged:
        typer.echo(f"Left out: {plain(line)}", err=True)
    typer.echo(f"Wrote {out / 'report.html'} and {out / 'report.md'}.")


def _search_of(runs: list[Path]) -> "Search | None":
    """Return what the search did that a single report is of, if it is of one.

    Raises:
        UserError: its file is damaged.
    """
    from compress.results.search import FILE, Search

    if len(runs) != 1 or not (file := runs[0] / FILE).is_file():
        return None
    try:
        return Search.model_validate_json(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged: search again, or remove it. ({error})") from error
