"""`compress report`: one report of several runs."""

from pathlib import Path
from typing import Annotated

import typer

from compress.analysis.budget import Budget
from compress.analysis.search_summary import summarise_search
from compress.cli.budget_options import takes_budget
from compress.report.terminal import show
from compress.results.merge import load
from compress.results.search import search_of
from compress.utils.text import plain


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
    search = search_of(runs)
    summary = summarise_search(rows, search, budget)
    show(summary, failed=failed)
    from compress.report.write import write_report  # here: altair takes a while to load

    title = ", ".join(sorted({row.recipe for row in rows}))
    write_report(summary, out, title, damaged, failed, search)
    for line in damaged:
        typer.echo(f"Left out: {plain(line)}", err=True)
    typer.echo(f"Wrote {out / 'report.html'} and {out / 'report.md'}.")
