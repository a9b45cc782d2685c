"""The table in a terminal: 100 columns, readable without colour."""

import sys
from collections.abc import Sequence
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.analysis.controls import beside_name, legend, role
from compress.analysis.explain import teacher_beaten
from compress.analysis.summary import Summary
from compress.report.failures import failure_line
from compress.report.notes import notes, whose
from compress.report.tables import MARK, columns
from compress.results.schema import Failure, Result
from compress.utils.text import plain as plain
from compress.utils.units import NONE

LEGEND = (
    f"{MARK} on the Pareto front: no other deployed row is both faster and more accurate.\n"
    "drop: right answers of the teacher minus its own, paired on the same images; interval.\n"
    "speedup: against the teacher in the same runtime, and in torch eager (as served)."
)


def results_table(
    summary: Summary,
    width: int = 100,
    failed: Sequence[Failure] = (),
) -> RenderableType:
    """Return all rows, fastest first, those that failed, the budget and every note below.

    A row takes two lines: the numbers, and below them what limits them.
    """
    rows, front = summary.fastest_first, summary.front
    shown = [column for column in columns(rows) if column.numeric]
    if width < 96:
        shown = shown[:-2]  # size and MACs: the report has them
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("")
    table.add_column("candidate\nruntime, role", overflow="fold")
    for column in shown:
        heading = [line for part in column.heading.split(", ") for line in wrap(part, 8)]
        table.add_column("\n".join(heading), justify="right", no_wrap=True)
    for row in rows:
        mark, style = (MARK, "bold") if row in front else ("", "")
        cells = [_two_lines(*column.cell(row).split(" ", 1)) for column in shown]
        table.add_row(Text(mark, style), _name(row, style), *cells)
    for failure in failed:
        own = role(failure)
        below_name = ["failed", *([own] if own and own not in failure.candidate else [])]
        table.add_row("", _lines(failure.candidate, below_name), *[NONE for _ in shown])
    words = [f"{word}: {meaning}" for word, meaning in legend(rows)]
    below = [Text("\n".join([LEGEND, *words]), style="dim")]
    if summary.budget:
        below.append(Text(f"Budget: {summary.budget}."))
    one_runtime = len({row.artifact.runtime for row in rows if row.competes}) < 2
    below += [
        Text(plain(f"{whose(group, rows, runtimes=not one_runtime)}: {remark}"))
        for group, remark in notes(summary)
    ]
    below += [Text(failure_line(failure)) for failure in failed]
    first = teacher_beaten(rows)
    above = [Text(plain(first), style="bold")] if first else []
    return Group(*above, table, *below)


def _two_lines(value: str, rest: str = "") -> Text:
    if len(rest) <= 1:  # a prefix such as the G of 15.5 G stays on the line
        return Text(f"{value} {rest}".strip())
    return Text(value).append("\n" + rest.strip("()"), style="dim")


def _name(row: Result, style: str) -> Text:
    return _lines(row.candidate, [row.artifact.runtime, *beside_name(row)], style)


def _lines(candidate: str, below: Sequence[str], style: str = "") -> Text:
    lines = wrap(plain(candidate), 34) or ["?"]
    return Text("\n".join(lines), style).append(f"\n{', '.join(below)}", style="dim not bold")


def show(
    summary: Summary,
    console: Console | None = None,
    failed: Sequence[Failure] = (),
) -> None:
    """Print the table; 100 columns wide where there is no terminal, as in a log."""
    console = console or Console(width=None if sys.stdout.isatty() else 100)
    console.print(results_table(summary, console.width, failed))
