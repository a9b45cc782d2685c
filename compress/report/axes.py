"""What the chart of the front can show across and up, and the front for each such pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.analysis.pareto import pareto_front
from compress.report.tables import largest_batch, ratio, smallest_batch, task_word
from compress.results.schema import Result
from compress.utils.interval import Interval


@dataclass(frozen=True)
class Axis:
    """A number of a row, in the unit of its title."""

    key: str
    title: str
    value: Callable[[Result], Interval | None]
    more_is_better: bool = False

    def worse(self, value: float) -> float:
        """Return the value as a loss: the lower, the better."""
        return -value if self.more_is_better else value


def x_axes(rows: Sequence[Result]) -> list[Axis]:
    """Return what deploying costs; all are above 0 and drawn on a logarithmic scale."""
    small, large = smallest_batch(rows), largest_batch(rows)
    axes = [
        Axis("latency", f"milliseconds an image, {small}", _latency_ms),
        Axis("throughput", f"images a second, {large}", _throughput, more_is_better=True),
        Axis("size", "MB of the model file", lambda r: _exact(r.artifact.size_bytes, 1e-6)),
        Axis("macs", "multiply-accumulates an image", lambda r: _exact(r.artifact.macs or None)),
        Axis("memory", "MB of memory at its peak", lambda r: _exact(r.peak_memory_bytes, 1e-6)),
        Axis("cold_start", "ms to load and answer once", lambda r: _exact(r.cold_start_s, 1e3)),
    ]
    return [axis for axis in axes if any(map(axis.value, rows))]


def y_axes(rows: Sequence[Result]) -> list[Axis]:
    """Return measures of how right the answers are."""
    word = task_word(rows)
    axes = [
        Axis("top1", f"{word} %", lambda r: _scaled(r.accuracy.top1, 100), more_is_better=True),
        Axis("top5", "top-5 %", lambda r: _exact(r.accuracy.top5, 100), more_is_better=True),
        Axis("log_loss", "log loss, nats", lambda r: _exact(r.accuracy.log_loss)),
        Axis("drop", f"drop of {word}, points", _drop_points),
    ]
    return [axis for axis in axes if any(map(axis.value, rows))]


def front(rows: Sequence[Result], x: Axis, y: Axis) -> list[int]:
    """Return indices of the deployed rows that no other beats in `x` and `y`, best in `x` first.

    Rows that lack one of the numbers do not compete. For latency and top-1 these are
    `compress.analysis.pareto.front_rows`.
    """
    found = [(i, x.value(row), y.value(row)) for i, row in enumerate(rows) if row.competes]
    both = [(i, x.worse(a.value), -y.worse(b.value)) for i, a, b in found if a and b]
    return [both[k][0] for k in pareto_front([(worse, good) for _, worse, good in both])]


def _latency_ms(row: Result) -> Interval:
    """Return the paired ratio's interval as a time: the ratio is known better than the time."""
    return _by_ratio(1e3 * row.latency_s, ratio(row.speedup), faster_is_less=True)


def _throughput(row: Result) -> Interval:
    return _by_ratio(row.throughput, ratio(row.throughput_speedup), faster_is_less=False)


def _by_ratio(value: float, known: Interval | None, faster_is_less: bool) -> Interval:
    if known is None:
        return Interval(value=value, low=value, high=value)
    low, high = known.low / known.value, known.high / known.value
    if faster_is_less:
        low, high = 1 / high, 1 / low
    return Interval(value=value, low=value * low, high=value * high)


def _drop_points(row: Result) -> Interval | None:
    """Return the drop in points; the teacher's is 0 by definition."""
    if row.role == "teacher":
        return _exact(0)
    return _scaled(row.accuracy.top1_drop, 100)


def _scaled(interval: Interval | None, factor: float) -> Interval | None:
    if interval is None:
        return None
    value, low, high = (factor * x for x in (interval.value, interval.low, interval.high))
    return Interval(value=value, low=low, high=high)


def _exact(value: float | None, factor: float = 1) -> Interval | None:
    return None if value is None else _scaled(Interval(value=value, low=value, high=value), factor)
