"""The table of a choice: what was picked, and what stands beside it."""

from compress.analysis.choose import Choice
from compress.analysis.explain import name
from compress.report.tables import ratio
from compress.results.schema import Result, RowKey
from compress.utils import units
from compress.utils.text_table import TextTable

# As assets/choose.js has it, which answers to the page's sliders.
PICK, RUNNER_UP, FASTER = "pick", "runner-up", "next faster"
BETTER, NEAREST = "next more accurate", "nearest miss"
HEADINGS = ("", "model", "speedup", "drop, points (95 %)", "ms", "MB")


def choice_table(choice: Choice) -> TextTable:
    """Return a line each for the pick and the rows beside it; one row may be two of them."""
    shown = {
        PICK: choice.picked,
        RUNNER_UP: choice.runner_up,
        FASTER: choice.next_faster,
        BETTER: choice.next_more_accurate,
        NEAREST: choice.nearest_miss,
    }
    labels: dict[RowKey, list[str]] = {}
    for label, row in shown.items():
        if row is not None:
            labels.setdefault(row.key, []).append(label)
    rows = {row.key: row for row in shown.values() if row is not None}
    return TextTable(
        title="The choice",
        meaning="",
        headings=list(HEADINGS),
        rows=[[", ".join(labels[key]), name(row), *numbers(row)] for key, row in rows.items()],
        words=2,
    )


def numbers(row: Result) -> list[str]:
    """Return speedup, drop with its interval, milliseconds and MB."""
    return [
        units.times(ratio(row.speedup)),
        units.points_interval(row.accuracy.top1_drop),
        units.ms(row.latency_s),
        units.megabytes(row.artifact.size_bytes),
    ]
