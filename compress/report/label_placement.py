"""What part of each axis a chart shows, and which names have room in it."""

from collections.abc import Sequence
from math import log

from compress.analysis.budget import Budget
from compress.report.axes import Axis
from compress.results.schema import Result

LABELS = 0.22  # share of the width that a name may take, kept free left of the best point
LINE, LETTER = 1 / 24, 0.009  # height of a line of text and width of a letter, as shares

Domain = tuple[float, float]  # the best value shown and the worst
Dot = tuple[float, float]  # across and up
Box = tuple[float, float, float, float]  # left, bottom, right, top as shares of the chart


def references(rows: Sequence[Result]) -> list[Result]:
    """Return the teacher in each runtime that is deployed: what a budget is relative to."""
    return [row for row in rows if row.competes and row.role == "teacher"]


def asked(budget: Budget | None) -> tuple[float | None, float | None]:
    """Return the bounds that a chart draws and sliders move: speedup, and drop as a fraction."""
    return (budget.speedup, budget.max_accuracy_drop) if budget else (None, None)


def x_domain(axis: Axis, rows: Sequence[Result], budget: Budget | None) -> Domain:
    """Span every interval and the budget's bound, with room for names beside the best."""
    bounds = _ends(axis, rows)
    speedup, _ = asked(budget)
    if speedup is not None and axis.key == "latency":
        bounds += [1e3 * row.latency_s / speedup for row in references(rows)]
    best, worst = min(bounds, key=axis.worse), max(bounds, key=axis.worse)
    worst *= 1 / 1.4 if axis.more_is_better else 1.4
    return best * (best / worst) ** (LABELS / (1 - LABELS)), worst


def y_domain(axis: Axis, rows: Sequence[Result], budget: Budget | None) -> Domain:
    """Span every interval and the budget's bound, with a little room at both ends."""
    bounds = _ends(axis, rows)
    _, drop = asked(budget)
    if drop is not None and axis.key in ("top1", "drop"):
        lost = 100 * drop * (-1 if axis.more_is_better else 1)
        bounds += [x.value + lost for row in references(rows) if (x := axis.value(row))]
    best, worst = min(bounds, key=axis.worse), max(bounds, key=axis.worse)
    margin = 0.06 * (best - worst) or (1.0 if axis.more_is_better else -1.0)
    return best + margin, worst - margin


def sides(
    named: Sequence[tuple[Dot, str, Sequence[str]]],
    dots: Sequence[Dot],
    across: Domain,
    up: Domain,
) -> list[str | None]:
    """Return the side of each dot where its name meets neither another name nor another dot.

    None: no side has room. `across` is on a logarithmic scale.

    Args:
        named: dots, their names and the sides to try.
        dots: all that are shown.
    """

    def shares(dot: Dot) -> Dot:
        x = log(dot[0] / across[0]) / log(across[1] / across[0])
        return x, (dot[1] - up[1]) / (up[0] - up[1])

    found: list[str | None] = []
    taken = [(x - 0.007, y - 0.01, x + 0.007, y + 0.01) for x, y in map(shares, dots)]
    for dot, name, tried in named:
        width = min(LABELS, LETTER * len(name))
        boxes = {side: _box(side, *shares(dot), width) for side in tried}
        free = (
            side
            for side, box in boxes.items()
            if box[2] <= 1 and not any(_meet(box, other) for other in taken)
        )
        found.append(side := next(free, None))
        taken += [boxes[side]] if side else []
    return found


def _ends(axis: Axis, rows: Sequence[Result]) -> list[float]:
    return [x for row in rows if (known := axis.value(row)) for x in (known.low, known.high)]


def _box(side: str, across: float, up: float, width: float) -> Box:
    """Return what a name covers beside the dot at (across, up)."""
    if side == "below":
        return across - width / 2, up - 1.5 * LINE, across + width / 2, up - 0.5 * LINE
    left = across - width - 0.01 if side == "left" else across + 0.01
    return left, up, left + width, up + LINE


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
