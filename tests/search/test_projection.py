"""What is promised: intervals that hold as often as they say, gains as a simulation has them."""

import math

import numpy as np
import pytest

from compress.search.projection import expected_gain, projected


def test_nothing_is_promised_before_anything_is_known() -> None:
    assert projected(0.5, 200, []) is None
    assert expected_gain([], 0.5, 3) == math.inf
    assert expected_gain([], 0.5, 0) == 0


def test_the_interval_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    spread, images, held = 0.04, 300, []
    for _ in range(2000):
        gains = rng.normal(0.2, spread, 6)
        truth = 0.5 + rng.normal(0.2, spread)
        seen = rng.binomial(images, 0.5) / images
        found = projected(seen, images, gains.tolist())
        assert found is not None
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("more", [1, 5, 30])
def test_the_gain_is_that_of_the_best_of_so_many(more: int) -> None:
    found, best = [0.50, 0.55, 0.60, 0.52], 0.58
    rng = np.random.default_rng(1)
    spread = np.std(found, ddof=1) * math.sqrt(1 + 1 / 4)
    drawn = np.mean(found) + spread * rng.standard_t(3, (200_000, more)).max(axis=1)
    simulated = np.maximum(np.minimum(drawn, 1) - best, 0).mean()
    assert expected_gain(found, best, more) == pytest.approx(simulated, rel=0.03)
    assert expected_gain(found, 1.0, more) == 0


def test_two_bad_ones_rule_nothing_out_and_ten_do() -> None:
    assert expected_gain([0.70, 0.72], 0.8, 8) > 0.001
    assert expected_gain([0.70, 0.72] * 5, 0.8, 8) < 0.001
