"""Intervals of statistics that are no mean over images: against known truth, and the exact ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.metrics.accuracy import paired_drop
from compress.metrics.resampling import draw_statistics, interval, loss, paired_loss
from compress.metrics.significance import mcnemar

TRIALS, IMAGES = 400, 150


def f1_of(records: np.ndarray):  # type: ignore[no-untyped-def]
    """Micro F1 of hits, wrong ones and missed ones by image (n, 3)."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        hits, wrong, missed = (weights @ records).T
        return 2 * hits / np.maximum(2 * hits + wrong + missed, 1e-12)

    return statistic


def share_of(right: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda weights: weights @ right / weights.sum(1)


def found(rng: np.random.Generator, hit_rate: float, images: int = IMAGES) -> np.ndarray:
    """Images with 0 to 4 things each, found at a rate that differs between images."""
    things = rng.integers(0, 5, images)
    rate = np.clip(hit_rate + rng.normal(0, 0.1, images), 0, 1)
    hits = rng.binomial(things, rate)
    return np.stack([hits, rng.poisson(0.4, images), things - hits], 1).astype(float)


# Percent of 400 intervals that hold the truth, as found: one 95.5, the difference of two 96.0.
def test_intervals_of_a_statistic_that_is_no_mean_cover() -> None:
    rng = np.random.default_rng(0)
    truth = [
        float(f1_of(found(rng, rate, 400_000))(np.ones((1, 400_000)))[0]) for rate in (0.8, 0.7)
    ]
    hits = np.zeros(2)
    for _ in range(TRIALS):
        good, bad = found(rng, 0.8), found(rng, 0.7)
        one = interval(f1_of(good), IMAGES)
        two, _ = loss(f1_of(good), IMAGES, f1_of(bad), IMAGES)
        hits += [
            one.low <= truth[0] <= one.high,
            two.low <= truth[0] - truth[1] <= two.high,
        ]
    assert ((hits >= 0.93 * TRIALS) & (hits <= 0.98 * TRIALS)).all(), hits / TRIALS


def test_paired_p_values_are_uniform_where_nothing_differs() -> None:
    """Two networks as good as each other are told apart at 5 % in about 5 % of all cases."""
    rng, told = np.random.default_rng(1), 0
    for _ in range(TRIALS):
        # What is hard for the one is hard for the other: half of the images are answered alike.
        one, other = found(rng, 0.75), found(rng, 0.75)
        other[: IMAGES // 2] = one[: IMAGES // 2]
        told += paired_loss(f1_of(one), f1_of(other), IMAGES)[1] < 0.05
    assert 0.02 * TRIALS <= told <= 0.08 * TRIALS, told / TRIALS


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 300))
def test_of_right_and_wrong_it_is_the_exact_interval(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.random(images) < rate for rate in (0.8, 0.7))
    texts = ["".join("01"[int(x)] for x in right) for right in (one, other)]
    drop, p = paired_loss(share_of(one), share_of(other), images)
    exact = paired_drop(*texts)
    assert drop.value == pytest.approx(exact.value)
    width = exact.high - exact.low
    assert [drop.low, drop.high] == pytest.approx([exact.low, exact.high], abs=0.15 * width)
    assert abs(p - mcnemar(*texts)) < 0.25


def test_what_never_differed_may_still_differ() -> None:
    alike = share_of(np.ones(40))
    drop, p = paired_loss(alike, alike, 40)
    assert drop.value == 0 and drop.low < 0 < drop.high and p == 1


def test_a_handful_of_images_and_one() -> None:
    for images in (1, 2):
        drawn = draw_statistics([share_of(np.ones(images))], images, 500, np.random.default_rng(0))
        assert drawn.shape == (500, 1) and ((drawn >= 0) & (drawn <= 1)).all()
        assert interval(share_of(np.ones(images)), images).low < 1
