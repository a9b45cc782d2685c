"""Two reports of the same candidates: what got better or worse, and what may be chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from compress.analysis.pareto import deployed
from compress.metrics.significance import holm, same_images
from compress.results.schema import Latency, Result, RowKey
from compress.tasks.differences import lost, lost_on_others
from compress.utils.errors import UserError
from compress.utils.interval import Interval

LEVEL = 0.05  # of the corrected p-values: the chance of one false verdict or more in a comparison
CONFIDENCE = 0.95

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Change:
    """What became of one number.

    Args:
        change: of top-1 the difference after - before, in [-1, 1]; of latency the ratio
            after / before. With its interval, which is not corrected for many comparisons.
        p: two-sided, corrected for all comparisons that were made (Holm 1979).
        beyond: whether it got worse by more than is tolerated, and that is significant.
    """

    before: float
    after: float
    change: Interval
    how: str
    p: float
    verdict: Verdict = "no difference shown"
    beyond: bool = False


@dataclass(frozen=True)
class Pair:
    """One candidate in one runtime, before and after."""

    before: Result
    after: Result
    accuracy: Change
    latency: Change | None
    not_judged: str = ""  # why latency was not


@dataclass(frozen=True)
class Comparison:
    """The answer; the rows of torch, a reference, and those dropped before are not compared."""

    pairs: list[Pair]
    appeared: list[RowKey]
    vanished: dict[RowKey, str | None]  # why it is dropped now, if it is

    @property
    def changes(self) -> list[Change]:
        """Everything that was tested."""
        return [x for pair in self.pairs for x in (pair.accuracy, pair.latency) if x is not None]

    @property
    def is_worse(self) -> bool:
        """Whether anything got significantly worse by more than was tolerated."""
        return any(change.beyond for change in self.changes)


def compare(
    before: Sequence[Result],
    after: Sequence[Result],
    accuracy_tolerance: float = 0.0,
    latency_tolerance: float = 0.05,
) -> Comparison:
    """Compares the deployed rows of the same candidate and runtime.

    Args:
        accuracy_tolerance: top-1 that may be lost, a fraction.
        latency_tolerance: 0.05 lets latency grow by 5 %. Runs hours apart differ by more than
            the processes of one run do.

    Raises:
        UserError: images are right by another rule (`measure.tolerance`, `measure.iou`).
    """
    old, new = ({row.key: row for row in deployed(rows)} for rows in (before, after))
    dropped = {row.key: row.dropped for row in after if row.dropped is not None}
    for x, row in old.items():
        rules = [row.accuracy.rule, new[x].accuracy.rule] if x in new else []
        if len(set(rules)) > 1:
            raise UserError(
                f"{x} was not judged alike: before, an image was right when {rules[0]}; after, "
                f"when {rules[1]}. Measure both with the same measure.tolerance and measure.iou."
            )
    found = [_pair(row, new[x]) for x, row in old.items() if x in new]
    pairs = _judged(found, accuracy_tolerance, latency_tolerance)
    return Comparison(
        pairs,
        appeared=[x for x in new if x not in old],
        vanished={x: dropped.get(x) for x in old if x not in new},
    )


def _pair(before: Result, after: Result) -> Pair:
    reason = _not_comparable(before, after)
    old, new = before.at_smallest_batch, after.at_smallest_batch
    latency = None if reason else _latency(old, new)
    return Pair(before, after, _accuracy(before, after), latency, reason)


def _accuracy(before: Result, after: Result) -> Change:
    """Return what became of the accuracy; on the same images paired."""
    old, new = before.accuracy, after.accuracy
    paired = same_images(before, after)
    loss, p = (lost if paired else lost_on_others)(old, new)
    how = "paired on the same images" if paired else "on other images, so not paired"
    gained = Interval(value=-loss.value, low=-loss.high, high=-loss.low)
    return Change(old.top1.value, new.top1.value, gained, how, p)


def _not_comparable(before: Result, after: Result) -> str:
    """Why their latencies cannot be compared, empty where they can."""
    old, new = before.at_smallest_batch, after.at_smallest_batch
    if before.machine.comparable() != after.machine.comparable():
        return "measured on different machines, or with different versions of a runtime"
    if (old.threads, old.batch) != (new.threads, new.batch):
        return "measured with different threads or batches"
    if min(len(old.samples_s), len(new.samples_s)) < 2:
        return "measured in a single process, which tells nothing of others"
    return ""


def _latency(before: Latency, after: Latency) -> Change:
    """Welch's test of the logarithms of the processes' medians."""
    old, new = (np.log([np.median(x) for x in y.samples_s]) for y in (before, after))
    test = stats.ttest_ind(new, old, equal_var=False)
    spread = test.confidence_interval(CONFIDENCE)
    ratio = after.median_s / before.median_s
    low, high = float(np.exp(spread.low)), float(np.exp(spread.high))
    interval = Interval(value=ratio, low=min(low, ratio), high=max(high, ratio))
    processes = f"{len(old)} and {len(new)} processes"
    return Change(before.median_s, after.median_s, interval, processes, float(test.pvalue))


def _judged(pairs: list[Pair], accuracy: float, latency: float) -> list[Pair]:
    """With corrected p-values and verdicts."""
    changes = [x for pair in pairs for x in (pair.accuracy, pair.latency) if x is not None]
    corrected = iter(holm([change.p for change in changes]))

    def verdict(change: Change, got_better: bool, beyond: Callable[[float], bool]) -> Change:
        p = next(corrected)
        if p > LEVEL:
            return replace(change, p=p)
        better: Verdict = "better" if got_better else "worse"
        return replace(
            change, p=p, verdict=better, beyond=not got_better and beyond(change.change.value)
        )

    return [
        replace(
            pair,
            accuracy=verdict(
                pair.accuracy, pair.accuracy.change.value > 0, lambda x: x < -accuracy
            ),
            latency=pair.latency
            and verdict(pair.latency, pair.latency.change.value < 1, lambda x: x > 1 + latency),
        )
        for pair in pairs
    ]
