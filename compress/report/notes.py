"""What is said of a row below the tables."""

from collections.abc import Iterator, Sequence

from compress.analysis.controls import role
from compress.analysis.explain import names
from compress.analysis.summary import Summary
from compress.results.schema import FROM_SCRATCH, NO_TEACHER, Result, RowKey
from compress.utils import units
from compress.utils.interval import Interval

# What the candidate has and its control has not, by the kind of control.
WORTH = {
    NO_TEACHER: "learning from the teacher gained {} over the control without one",
    FROM_SCRATCH: "the weights kept from the network it was made of are worth {} over the "
    "same shape trained from scratch",
}
WORTH_OF_OTHERS = "it has {} over its control"

ALIKE = (
    "cannot be told apart at 95 %, neither in latency nor in accuracy: each may be the better one."
)


def remarks(row: Result, rows: Sequence[Result]) -> list[str]:
    """Return why a row was dropped, its notes, doubts about its times, and its gain over a control.

    Args:
        rows: all that are reported, the control among them.
    """
    dropped = [f"dropped. {row.dropped}"] if row.dropped is not None else []
    gained = [_gained(row, row.gain_over_control, rows)] if row.gain_over_control else []
    doubts = dict.fromkeys(warning for x in row.latency for warning in x.warnings)
    return [*dropped, *row.notes, *doubts, *gained]


def notes(summary: Summary) -> list[tuple[list[Result], str]]:
    """Return every remark once, and of which rows it is true."""
    found: dict[str, list[Result]] = {}
    for row in summary.fastest_first:
        for remark in remarks(row, summary.fastest_first):
            found.setdefault(remark, []).append(row)
    return [
        *((group, ALIKE) for group in summary.alike),
        *_looks(summary.fastest_first),
        *((group, remark) for remark, group in found.items()),
    ]


def _looks(rows: Sequence[Result]) -> Iterator[tuple[list[Result], str]]:
    """Yield how many files were judged by the validation images, where there were others."""
    counts = {row.recipe: row.files_judged for row in rows if row.files_judged}
    for recipe, count in counts.items():
        group = [row for row in rows if row.recipe == recipe]
        here = len({row.artifact.sha256 for row in group})
        if count > here:
            yield (
                group,
                f"their validation images have judged {count} files of this recipe so far, and "
                f"{here} are here. Settings that were chosen by them flatter what was chosen: keep "
                "images to choose by with data.tune_fraction.",
            )


def whose(group: Sequence[Result], rows: Sequence[Result], runtimes: bool = True) -> str:
    """Return whom a remark is about, of all rows; without `runtimes`, only the candidates."""
    if 1 < len(group) == len(rows):
        return "all rows"
    return names(group) if runtimes else ", ".join(dict.fromkeys(row.candidate for row in group))


def _gained(row: Result, gain: Interval, rows: Sequence[Result]) -> str:
    worth = WORTH.get(_kind_of_control(row, gain, rows), WORTH_OF_OTHERS)
    points = f"{units.points(gain.value)} points of {row.accuracy.word}"
    sure = "" if gain.low > 0 or gain.high < 0 else "; it may be nothing"
    return (
        f"{worth.format(points)} (95 % interval "
        f"{units.points(gain.low)} to {units.points(gain.high)}{sure})."
    )


def _kind_of_control(row: Result, gain: Interval, rows: Sequence[Result]) -> str:
    """Return which of several controls the gain is over: the one that is that much less right."""

    def mismatch(control: Result) -> float:
        return abs(row.accuracy.top1.value - control.accuracy.top1.value - gain.value)

    controls = [
        x for x in rows if x.control_of and RowKey(x.control_of, x.artifact.runtime) == row.key
    ]
    return role(min(controls, key=mismatch)) if controls else ""
