"""Which models nobody beats: no other is at least as fast and as accurate, and better at one."""

from collections.abc import Sequence
from math import inf

from compress.results.schema import Result


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the non-dominated points, fastest first.

    Args:
        points: (latency in seconds, lower is better; top-1 in [0, 1], higher is better).

    Equal points do not dominate each other: all of them are in the front, or none.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    front: list[int] = []
    best = -inf
    for i in order:
        # Whatever came before is at least as fast, so only a higher top-1 is worth its time.
        if points[i][1] > best or (front and points[i] == points[front[-1]]):
            front.append(i)
            best = points[i][1]
    return front


def deployed(rows: Sequence[Result]) -> list[Result]:
    """Return the rows that could be served, whatever their role.

    A control may be in the front: when the same student without a teacher wins, that is the answer.
    """
    return [row for row in rows if row.competes]


def front_rows(rows: Sequence[Result]) -> list[Result]:
    """The deployed rows on the front of latency (smallest batch) and top-1, fastest first."""
    served = deployed(rows)
    points = [(row.latency_s, row.accuracy.top1.value) for row in served]
    return [served[i] for i in pareto_front(points)]
