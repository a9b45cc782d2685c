"""Results and choices as notebooks show them: small tables without style or script of their own."""

from collections.abc import Iterator, Sequence

from compress.analysis.choose import Choice
from compress.analysis.summary import summarise
from compress.report.choice_table import choice_table
from compress.report.tables import MARK, columns
from compress.results.schema import Result
from compress.utils.text import html_escape
from compress.utils.text_table import TextTable


class Results(list[Result]):
    """Comparable results; a notebook shows them as a table, fastest first."""

    def _repr_html_(self) -> str:
        return results_html(self)


class Drawing:
    """A picture that a notebook shows."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg


def results_html(rows: Sequence[Result]) -> str:
    """Return the main table of the rows, fastest first; those on the front have a star."""
    if not rows:
        return "<p>No results.</p>"
    summary = summarise(rows)
    ordered = summary.fastest_first
    front = {row.key for row in summary.front} if len(rows) > 1 else set()
    shown = columns(ordered)
    table = TextTable(
        title="",
        meaning="",
        headings=["", *(column.heading for column in shown)],
        rows=[
            [MARK if row.key in front else "", *(column.cell(row) for column in shown)]
            for row in ordered
        ],
        words=3,
    )
    return table_html(table)


def choice_html(choice: Choice) -> str:
    """Return what was picked and why, or what to relax, with the rows beside it."""
    found = choice.picked is not None
    said = [choice.why, *choice.warnings] if found else ["Nothing fits.", *choice.hints()]
    words = "".join(f"<p>{html_escape(line)}</p>" for line in said)
    return table_html(choice_table(choice)) + words


def table_html(table: TextTable) -> str:
    """Return a table whose texts are escaped: names are somebody's."""
    return "".join(_lines(table))


def _lines(table: TextTable) -> Iterator[str]:
    align = ["right" if number else "left" for number in table.numeric]
    yield "<table><thead><tr>"
    for heading, side in zip(table.headings, align, strict=True):
        yield f'<th style="text-align: {side}">{html_escape(heading)}</th>'
    yield "</tr></thead><tbody>"
    for row in table.rows:
        yield "<tr>"
        for cell, side in zip(row, align, strict=True):
            yield f'<td style="text-align: {side}">{html_escape(cell)}</td>'
        yield "</tr>"
    yield "</tbody></table>"
