"""What the measurements leave open: joint draws of latency, speedup, top-1 and drop.

A draw is one way that the truth may be, for all rows at once: what hit them alike when they were
measured, a slow process or a hard image, makes no two of them look more different than they are.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from compress.metrics.resampling import draw_statistics
from compress.results.schema import Accuracy, Result, RowKey
from compress.tasks.differences import statistic_of
from compress.utils.seeding import generator

CONFIDENCE = 0.95
LARGEST_LOG = 50.0  # Student's t over two processes has tails that no float holds


MOST_RATIOS, LEAST_DRAWS = 10**8, 200  # 0.8 GB of them; draws that 95 % can be told by


@dataclass(frozen=True)
class Draws:
    """Float arrays (draws, rows): seconds at the smallest batch, ratios, fractions.

    `speedup` and `drop` are against the teacher in the same runtime: 1 and 0 for the teacher
    itself, nan for rows that were not compared with one.
    """

    latency_s: np.ndarray
    speedup: np.ndarray
    top1: np.ndarray
    drop: np.ndarray
    # (draws, rows, rows), the time of the first row divided by that of the second. Of rows timed
    # together it is that of paired rounds, often known tenfold better than either time.
    latency_ratio: np.ndarray


def draw(rows: Sequence[Result], count: int = 2000, seed: int = 0) -> Draws:
    """Draws the latency and accuracy of all rows `count` times.

    Rows that were timed together share the processes, rows judged on the same images share
    these. A speedup's draws have the interval that compress/measure/latency.py gives it; a drop's
    have the mean and the variance of the one in compress/metrics/accuracy.py. Where the teacher
    was measured apart from a row, or is not here (a report of several recipes keeps one), the
    row's reported interval is drawn from, independently of the rest. Of very many rows fewer draws
    are made, since each has the ratio of every two.
    """
    count = min(count, max(LEAST_DRAWS, MOST_RATIOS // len(rows) ** 2)) if rows else count
    rng = generator(seed, "joint draws")
    latency_s, speedup, top1, drop = np.full((4, count, len(rows)), np.nan)
    places: dict[RowKey | None, int] = {row.key: i for i, row in enumerate(rows)}
    teachers = [places.get(row.reference) for row in rows]
    for i, row in enumerate(rows):
        if row.role == "teacher":
            speedup[:, i], drop[:, i] = 1, 0
        elif row.speedup is not None and row.accuracy.top1_drop is not None:
            ratio, lost = row.speedup.ratio, row.accuracy.top1_drop
            speedup[:, i] = np.exp(_normal(np.log(ratio.low), np.log(ratio.high), count, rng))
            drop[:, i] = _normal(lost.low, lost.high, count, rng)

    ratios = []
    for group in _groups(map(_timing, rows)):
        logs = [
            np.log(process) for process in zip(*(_samples(rows[i]) for i in group), strict=True)
        ]
        latency_s[:, group], paired = _times(logs, count, rng)
        ratios.append((np.ix_(range(count), group, group), paired))
        for k, i in enumerate(group):
            if (t := teachers[i]) in group:
                speedup[:, i] = paired[:, group.index(t), k]
    latency_ratio = latency_s[:, :, None] / latency_s[:, None, :]
    for where, paired in ratios:
        latency_ratio[where] = paired

    for group in _groups(map(_judging, rows)):
        top1[:, group] = _judged([rows[i].accuracy for i in group], count, rng)
        for i in group:
            if (t := teachers[i]) in group:
                drop[:, i] = top1[:, t] - top1[:, i]
    return Draws(latency_s, speedup, top1, drop, latency_ratio)


def _timing(row: Result) -> Hashable:
    """Equal for rows whose i-th samples were taken in one round."""
    return (row.run, row.measured_at, tuple(map(len, _samples(row))))


def _judging(row: Result) -> Hashable:
    """Equal for rows that were judged on the same images."""
    return (row.data, row.accuracy.images)


def _groups(keys: Iterable[Hashable]) -> list[list[int]]:
    """The indices of equal keys."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        found[key].append(i)
    return list(found.values())


def _samples(row: Result) -> list[list[float]]:
    """Seconds at the smallest batch, a list a process."""
    return row.at_smallest_batch.samples_s


def _times(
    logs: list[np.ndarray], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(count, rows) seconds and (count, rows, rows) ratios of rows that were timed together.

    Args:
        logs: for each process, (rows, rounds) logarithms of seconds.
    """
    rows = len(logs[0])
    one, other = np.triu_indices(rows, 1)
    drawn = _medians([np.concatenate([x, x[one] - x[other]]) for x in logs], count, rng)
    ratio = np.zeros((count, rows, rows))
    ratio[:, one, other] = drawn[:, rows:]
    return np.exp(drawn[:, :rows]), np.exp(ratio - ratio.swapaxes(1, 2))


def _medians(processes: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, quantities) draws of the median of each quantity.

    The processes' medians have a mean, and that mean a covariance; the draws are of the
    multivariate t distribution with these and one degree of freedom less than there are processes:
    each quantity has Student's t interval. A single process tells nothing of others: its rounds
    are drawn with replacement.

    Args:
        processes: for each, (quantities, rounds).
    """
    if len(processes) == 1:
        rounds = rng.integers(processes[0].shape[1], size=(count, processes[0].shape[1]))
        return np.stack([np.median(each[rounds], axis=1) for each in processes[0]], axis=1)
    medians = np.array([np.median(process, axis=1) for process in processes])
    mean, freedom = medians.mean(axis=0), len(medians) - 1
    # The sum of the processes' deviations, each times a normal number, has their covariance.
    off = rng.standard_normal((count, len(medians))) @ (medians - mean)
    off /= np.sqrt(len(medians) * rng.chisquare(freedom, (count, 1)))
    return np.asarray(mean + np.clip(off, -LARGEST_LOG, LARGEST_LOG))


def _judged(rows: Sequence[Accuracy], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return draws (count, rows) of what rows are judged by, of the same images."""
    if all(row.correct for row in rows):
        correct = np.array([list(row.correct) for row in rows]) == "1"
        return _right_answers(correct, count, rng)
    statistics = [statistic_of(row) for row in rows]
    return draw_statistics(statistics, rows[0].images, count, rng)


def _right_answers(correct: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, rows) draws of top-1: images with replacement, the same for all rows.

    Among the images are two that were never seen, on which each row tosses a coin. For any two
    rows this puts half an image into each cell of their 2 x 2 table, as Agresti & Min (2005) do:
    two rows that never disagreed may still differ, which a plain bootstrap would rule out.

    Args:
        correct: bool (rows, images).
    """
    rows, images = correct.shape
    patterns, seen = np.unique(correct, axis=1, return_counts=True)  # images alike to all rows
    chances = np.append(seen, 2) / (images + 2)
    drawn = rng.multinomial(images + 2, chances, size=count)
    right = drawn[:, :-1] @ patterns.T.astype(float)
    coins = rng.binomial(drawn[:, -1:], 0.5, size=(count, rows))
    return np.asarray((right + coins) / (images + 2))


def _normal(low: float, high: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws that have the given interval."""
    width = 2 * NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return rng.normal((low + high) / 2, (high - low) / width, count)


def front_probability(draws: Draws, deployed: Sequence[bool] | np.ndarray) -> np.ndarray:
    """(rows,) in how many of the draws the row is on the front of latency and top-1.

    Args:
        deployed: (rows,) which compete; the others get 0 and hide nobody.
    """
    competes = np.asarray(deployed, dtype=bool)
    found = np.zeros(len(competes))
    for i in np.flatnonzero(competes):
        time, more = draws.latency_ratio[:, :, i], draws.top1 - draws.top1[:, i, None]
        dominates = (time <= 1) & (more >= 0) & ((time < 1) | (more > 0))
        found[i] = 1 - dominates[:, competes].any(axis=1).mean()
    return found


def alike(draws: Draws, among: Sequence[int] | None = None) -> list[list[int]]:
    """Groups of rows no two of which can be told apart at 95 %, neither in latency nor in top-1.

    Args:
        among: the rows that are looked at; None: all.

    Being alike does not carry over (a and b, b and c, but not a and c), so that a row may be in
    several groups; no group lies within another, and none is of a row alone.
    """
    groups: list[set[int]] = []  # all largest ones among the rows so far
    looked_at = range(draws.top1.shape[1]) if among is None else sorted(among)
    for i in looked_at:
        near = {
            j
            for j in looked_at
            if j < i
            and _may_be(draws.latency_ratio[:, i, j], 1)
            and _may_be(draws.top1[:, i] - draws.top1[:, j], 0)
        }
        found = [*groups, *(group & near | {i} for group in [*groups, set()])]
        groups = [x for x in found if not any(x < y for y in found)]
        groups = [x for k, x in enumerate(groups) if x not in groups[:k]]
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _may_be(drawn: np.ndarray, value: float) -> bool:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return bool(low <= value <= high)
