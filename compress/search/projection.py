"""What a short schedule promises of the whole one, and what more trials may bring."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from scipy.special import stdtr, stdtrit

from compress.utils.interval import Interval

CONFIDENCE = 0.95
DOUBT = 0.02  # standard deviation, at least, where the few trials that there are happen to agree
LONE = 0.05  # and of a single trial, which tells nothing of it


def projected(accuracy: float, images: int, gains: Sequence[float]) -> Interval | None:
    """Return the accuracy that the whole schedule would reach, with a prediction interval.

    The gain is that of earlier trials of the same family from this rung to the end: their mean,
    with the spread of one more trial, s² (1 + 1/n), by Student's t, and that of the images on top.

    Args:
        accuracy: at this rung, in [0, 1], on so many images.
        gains: of earlier trials.

    Returns:
        None where no earlier trial went to the end.
    """
    if not gains:
        return None
    value = min(1.0, max(0.0, accuracy + fmean(gains)))
    spread = _spread(gains) * math.sqrt(1 + 1 / len(gains))
    sampling = math.sqrt(max(value * (1 - value), 0.25 / images) / images)
    level = (1 + CONFIDENCE) / 2
    normal = NormalDist().inv_cdf(level)
    of_few = normal if len(gains) < 2 else float(stdtrit(len(gains) - 1, level))
    half = math.hypot(of_few * spread, normal * sampling)
    return Interval(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


def expected_gain(found: Sequence[float], best: float, more: float) -> float:
    """Return by how much the best is expected to rise with so many more trials.

    As if accuracies were normal and known by those found alone: each further one lies round their
    mean with the spread of one more, s² (1 + 1/k), by Student's t, so that a few bad ones rule
    nothing out. The integral of 1 - F(x)^n above the best (the expected improvement of the largest
    of n).

    Args:
        found: accuracies of candidates that are fast enough, in [0, 1].
        best: the accuracy of the pick, or the one that is needed where there is none.
        more: trials that are expected to be fast enough; need not be whole.
    """
    if more <= 0:
        return 0.0
    if not found:
        return math.inf
    mean, count = fmean(found), len(found)
    spread = _spread(found) * math.sqrt(1 + 1 / count)
    steps, top = 200, 1.0
    width = max(0.0, top - best) / steps
    above = ((best + (i + 0.5) * width - mean) / spread for i in range(steps))
    return sum(1 - _below(x, count) ** more for x in above) * width


def _below(deviations: float, count: int) -> float:
    """Return the probability of less; of a single trial the spread is assumed, not estimated."""
    if count < 2:
        return NormalDist().cdf(deviations)
    return float(stdtr(count - 1, deviations))


def _spread(values: Sequence[float]) -> float:
    return LONE if len(values) < 2 else max(stdev(values), DOUBT)
