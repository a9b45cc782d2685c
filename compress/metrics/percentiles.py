"""What most calls take at most, and how many samples it takes to say so.

The rule is that of MLPerf Inference for a single stream (its early stopping). Were the bound lower
than the percentile, each call would exceed it with a probability of more than 1 - p. Of n samples,
t is the largest number for which t or fewer would then exceed it with a chance below 1 %:

    t = max {k >= 1: P(Binomial(n, 1 - p) <= k) < 0.01}

The t - 1 longest samples are left out and the longest of the others is the bound. Without such a t
there is none: p90 needs 64 samples, p95 130 and p99 662. Samples count as independent, those of one
process too.
"""

from collections.abc import Sequence
from functools import cache
from itertools import count

import numpy as np
from scipy.special import bdtr

from compress.results.schema import Percentile

CONFIDENCE = 0.99
PERCENTS = (50, 90, 95, 99)


def percentiles(samples_s: Sequence[float]) -> list[Percentile]:
    """A bound for each of PERCENTS, or how many samples it needs."""
    ordered = sorted(samples_s)
    found = []
    for percent in PERCENTS:
        t = allowed_above(len(ordered), percent)
        bound = ordered[-t] if t else None
        found.append(Percentile(percent=percent, bound_s=bound, needs_samples=_needed(percent)))
    return found


def allowed_above(samples: int, percent: int) -> int:
    """The rule's t; 0 where there is none."""
    chances = bdtr(np.arange(samples), samples, 1 - percent / 100)
    return max(0, int(np.searchsorted(chances, 1 - CONFIDENCE)) - 1)


@cache
def _needed(percent: int) -> int:
    return next(samples for samples in count(1) if allowed_above(samples, percent))
