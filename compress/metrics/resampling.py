"""Intervals of any statistic of images, by drawing which images there might have been.

Draws are weights of the images, as a bootstrap has them (Efron 1979), with two images more that
were never seen, on which a statistic in [0, 1] is the toss of a coin: for a share of right answers
that is half an image in each cell of two networks' 2 x 2 table (Agresti & Min 2005, Statistics in
Medicine 24:729-740), and what never differed may still differ.
"""

from collections.abc import Callable, Sequence

import numpy as np

from compress.utils.interval import Interval
from compress.utils.seeding import generator

CONFIDENCE = 0.95
DRAWS = 2000
UNSEEN = 2  # images
Statistic = Callable[[np.ndarray], np.ndarray]  # weights (draws, n) -> in [0, 1], (draws,)


def draw_statistics(
    statistics: Sequence[Statistic], images: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return draws of statistics of the same images, (count, statistics): the same for all.

    Args:
        images: how many there are, n.
    """
    chances = np.append(np.ones(images), UNSEEN) / (images + UNSEEN)
    drawn = rng.multinomial(images + UNSEEN, chances, size=count)
    seen, unseen = drawn[:, :-1].astype(float), drawn[:, -1:]
    coins = rng.binomial(unseen, 0.5, size=(count, len(statistics)))
    nothing = seen.sum(1) == 0  # all of a handful of images may be left out
    seen[nothing] = 1.0
    values = np.stack([statistic(seen) for statistic in statistics], axis=1)
    share = np.where(nothing[:, None], 0.0, images + UNSEEN - unseen)
    return np.asarray((share * values + coins) / (images + UNSEEN))


def interval(statistic: Statistic, images: int) -> Interval:
    """Return the statistic with its interval."""
    value = _as_measured(statistic, images)
    drawn = draw_statistics([statistic], images, DRAWS, generator(0, "one statistic"))[:, 0]
    return _around(value, drawn)


def paired_loss(before: Statistic, after: Statistic, images: int) -> tuple[Interval, float]:
    """Return what is lost from one to the other on the same images, and its p-value.

    The p-value is two-sided: twice the share of draws on the other side of no difference.
    """
    drawn = draw_statistics([before, after], images, DRAWS, generator(0, "two statistics"))
    value = _as_measured(before, images) - _as_measured(after, images)
    return _around(value, lost := drawn[:, 0] - drawn[:, 1]), _two_sided(lost)


def loss(
    before: Statistic, images_before: int, after: Statistic, images_after: int
) -> tuple[Interval, float]:
    """Return the same on different images, which are drawn independently."""
    rng = generator(0, "statistics of other images")
    old = draw_statistics([before], images_before, DRAWS, rng)[:, 0]
    new = draw_statistics([after], images_after, DRAWS, rng)[:, 0]
    value = _as_measured(before, images_before) - _as_measured(after, images_after)
    return _around(value, old - new), _two_sided(old - new)


def _as_measured(statistic: Statistic, images: int) -> float:
    return float(statistic(np.ones((1, images)))[0])


def _around(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _two_sided(drawn: np.ndarray) -> float:
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, 2 * (int(beyond) + 1) / (len(drawn) + 1))
