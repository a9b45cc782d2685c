"""The report as Markdown that code-hosting sites render. Names and notes are somebody's text."""

from collections.abc import Iterable, Sequence

from compress.analysis.explain import name
from compress.report.content import Content, Detail, Table
from compress.report.saliency import SaliencyPart
from compress.report.search import SearchPart
from compress.report.steps import StepDetail
from compress.report.tables import MARK
from compress.utils.text import html_escape
from compress.utils.text import markdown_code as code
from compress.utils.text import markdown_escape as escape
from compress.utils.text_table import TextTable


def markdown(report: Content) -> str:
    """Return the whole file; it shows `pareto.svg`, which stands beside it."""
    parts = [
        f"# {escape(report.title)}",
        *([f"**{escape(report.first)}**"] if report.first else []),
        f"**Asked:** {escape(report.asked)}",
        *_choice(report),
        "## Front",
        "![accuracy against latency of every row, with the Pareto front](pareto.svg)",
        f"{MARK} marks the front; bars are intervals. The same image with every number on its "
        "points is in [report.html](report.html), the numbers are in [pareto.csv](pareto.csv).",
        *_search(report.search),
        "## Measurements",
        _table(report.table),
        *(_text_table(report.failed) if report.failed else []),
        _bullets(f"**{term}**: {meaning}" for term, meaning in report.definitions),
        "## More measurements",
        _table(report.more),
        *(part for table in report.pipelines for part in _text_table(table)),
        *_saliency(report.saliency),
        "## Candidates",
        *(part for detail in report.details for part in _detail(detail)),
        *_section("## Notes", report.notes),
        *_section("## Lines that could not be read, and were left out", report.damaged),
        "## Machine",
        _machine(report.machine),
        "## How to get each row again",
        *(part for command, rows in report.commands for part in _command(command, rows)),
    ]
    return "\n\n".join(parts) + "\n"


def _choice(report: Content) -> list[str]:
    choice = report.choice
    if choice is None or report.choice_table is None:
        return []
    beside = [_text_grid(report.choice_table)] if report.choice_table.rows else []
    if choice.picked is None:
        return [
            "## Nothing fits",
            *beside,
            *_section("What would let something in:", choice.hints()),
            *_section("What did not fit:", choice.misses),
        ]
    lost = [f"Runner-up: {escape(choice.runner_up_lost)}"] if choice.runner_up else []
    return [
        f"## Chosen: {escape(name(choice.picked))}",
        *beside,
        escape(choice.why),
        *lost,
        *map(escape, choice.next_steps),
        *(f"> {escape(warning)}" for warning in choice.warnings),
        *_section("What did not fit:", choice.misses),
    ]


def _search(part: SearchPart | None) -> list[str]:
    if part is None:
        return []
    tables = (line for table in part.tables if table.rows for line in _text_table(table))
    picture = "![what was tried when, and how it ended](search.svg)"
    return ["## The search", _bullets(map(escape, part.said)), picture, *tables]


def _table(table: Table) -> str:
    return _grid(
        ["", *(escape(column.heading) for column in table.columns)],
        [":-:", *(_align(column.numeric) for column in table.columns)],
        ([MARK if front else "", *map(escape, cells)] for front, cells in table.rows),
    )


def _saliency(part: SaliencyPart | None) -> list[str]:
    if part is None:
        return []
    rows = (list(map(escape, cells)) for cells in part.rows)
    grid = _grid(part.headings, list(map(_align, part.numeric)), rows)
    notes = [_bullets(map(escape, part.notes))] if part.notes else []
    return ["## Where they look", part.meaning, *([grid] if part.rows else []), *notes]


def _text_grid(table: TextTable) -> str:
    rows = (list(map(escape, cells)) for cells in table.rows)
    return _grid(list(map(escape, table.headings)), list(map(_align, table.numeric)), rows)


def _text_table(table: TextTable) -> list[str]:
    grid = _text_grid(table)
    if table.folded:
        return [f"<details><summary>{html_escape(table.title)}</summary>", grid, "</details>"]
    return [f"## {escape(table.title)}", table.meaning, grid]


def _align(numeric: bool) -> str:
    return "--:" if numeric else ":--"


def _grid(headings: Sequence[str], aligns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, aligns, *rows))


def _detail(detail: Detail) -> list[str]:
    title = f"{detail.name} ({detail.role})" if detail.role else detail.name
    steps = [f"1. {escape(step)}" for step in detail.lineage]
    return [
        f"### {escape(title)}",
        *(["\n".join(steps)] if steps else []),
        _bullets(map(escape, detail.facts)),
        *(part for step in detail.steps for part in _step(step)),
    ]


def _step(step: StepDetail) -> list[str]:
    said = [_bullets(map(escape, step.said))] if step.said else []
    if not step.decisions:
        return said
    grid = _grid(
        [column.heading for column in step.columns],
        [_align(column.numeric) for column in step.columns],
        (list(map(escape, cells)) for cells in step.decisions),
    )
    # Up to the next empty line a tag's line is HTML; what comes after it is Markdown again.
    opened = f"<details><summary>{html_escape(step.summary)}</summary>"
    return [*said, opened, grid, "</details>"]


def _machine(facts: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "| :-- | :-- |", *(f"| {k} | {escape(v)} |" for k, v in facts)])


def _command(command: str, rows: list[str]) -> list[str]:
    return [f"For {escape(', '.join(rows))}:", code(command)]


def _section(heading: str, lines: list[str]) -> list[str]:
    return [heading, _bullets(map(escape, lines))] if lines else []


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
