"""`compress report`: one report of several runs."""

from pathlib import Path
from typing import Annotated

import typer

from compress.budget import Budget
from compress.errors import UserError
from compress.report.join import load
from compress.report.terminal import show
from compress.report.text import plain


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run or report folders, or results.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("reports/joined"),
    speedup: Annotated[
        float | None, typer.Option(help="Budget: times faster than the teacher, e.g. 10.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Budget: accuracy that may be lost; 0.01 is one point.")
    ] = None,
) -> None:
    """Write report.md, report.html, pareto.csv and the picture of the front for several runs.

    Results of different machines are refused: they cannot be compared.
    """
    budget = _budget(speedup, max_accuracy_drop)
    rows, damaged = load(runs)
    show(rows, budget)
    from compress.report.write import write_report  # here: altair takes a while to load

    title = ", ".join(sorted({row.recipe for row in rows}))
    write_report(rows, out, budget, title, damaged)
    for line in damaged:
        typer.echo(f"Left out: {plain(line)}", err=True)
    typer.echo(f"Wrote {out / 'report.html'} and {out / 'report.md'}.")


def _budget(speedup: float | None, max_accuracy_drop: float | None) -> Budget | None:
    if speedup is None and max_accuracy_drop is None:
        return None
    if speedup is None or max_accuracy_drop is None:
        raise UserError("A budget has two sides: give both --speedup and --max-accuracy-drop.")
    return Budget(speedup, max_accuracy_drop)
