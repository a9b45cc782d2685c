"""What two networks differ by on one image, counted and drawn."""

import numpy as np
import pytest

from compress.metrics.accuracy import paired_drop
from compress.results.schema import Accuracy
from compress.tasks.differences import paired_spread
from compress.utils.interval import Interval

ANY = Interval(value=0.5, low=0.4, high=0.6)


def of_answers(right: str) -> Accuracy:
    return Accuracy(images=len(right), top1=ANY, correct=right)


def of_scores(scores: np.ndarray) -> Accuracy:
    records = scores.tolist()
    return Accuracy(
        images=len(records), top1=ANY, correct="", task="multilabel", metric="F1", records=records
    )


def test_it_is_the_share_on_which_they_disagree_with_half_an_image_in_each_cell() -> None:
    one, other = of_answers("1" * 380 + "0" * 10), of_answers("1" * 370 + "0" * 10 + "1" * 10)
    assert paired_spread(one, other) == pytest.approx(21 / 392)
    assert paired_spread(one, one) == pytest.approx(1 / 392)


def test_it_is_the_variance_that_the_interval_of_the_drop_has() -> None:
    before, after = "1" * 300 + "0" * 100, "0" * 30 + "1" * 290 + "0" * 80
    found = paired_drop(before, after)
    mean = (before.count("1") - after.count("1")) / 402
    variance = paired_spread(of_answers(before), of_answers(after)) - mean**2
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(variance / 402), rel=1e-4)


def test_of_scores_it_is_the_mean_square_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    one = rng.random(800)
    other = np.clip(one + rng.normal(-0.05, 0.2, 800), 0, 1)
    found = paired_spread(of_scores(one), of_scores(other))
    assert found == pytest.approx(((one - other) ** 2).mean(), rel=0.1)


def test_drawn_and_counted_are_alike() -> None:
    rng = np.random.default_rng(1)
    one, other = (rng.random((2, 500)) < 0.8).astype(int)
    counted = paired_spread(*(of_answers("".join(map(str, x))) for x in (one, other)))
    assert paired_spread(of_scores(one), of_scores(other)) == pytest.approx(counted, rel=0.1)
