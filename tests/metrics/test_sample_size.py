"""Against the exact distribution of two networks' table, known figures, and one another."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compress.metrics.accuracy import paired_drop
from compress.metrics.sample_size import highest_confidence, images_needed, largest_disagreement

DROPS = st.floats(0.002, 0.5)
SHARES = st.floats(0.001, 1)
CONFIDENCES = st.floats(0.51, 0.999)


@pytest.mark.parametrize(
    ("asked", "images"),
    [
        ({"disagreement": 21 / 392}, 1450),
        ({"disagreement": 0.05}, 1353),
        ({"disagreement": 0.05, "confidence": 0.8}, 355),
        ({"disagreement": 0.05, "drop": 0.005}, 5409),
        ({"disagreement": 0.05, "drop": -0.01}, 338),
        ({"disagreement": 0.05, "confidence": 0.5}, 1),
        ({"disagreement": 0.0}, 1),
        ({"disagreement": 0.05, "drop": 0.01}, None),
        ({"disagreement": 0.05, "drop": 0.02}, None),
    ],
)
def test_for_a_claim_of_one_point(asked: dict[str, float], images: int | None) -> None:
    assert images_needed(0.01, **asked) == images


def test_a_claim_of_nothing_needs_a_better_candidate() -> None:
    assert images_needed(0, 0.05) is None
    assert images_needed(0, 0.05, drop=-0.01) == 1351
    assert highest_confidence(0, 0.05, 1000) == 0.5


@given(DROPS, SHARES, CONFIDENCES)
def test_it_is_the_fewest_that_reach_the_confidence(
    max_drop: float, disagreement: float, confidence: float
) -> None:
    images = images_needed(max_drop, disagreement, confidence)
    assert images is not None
    assert highest_confidence(max_drop, disagreement, images) >= confidence - 1e-9
    if images > 1:
        assert highest_confidence(max_drop, disagreement, images - 1) < confidence + 1e-9


@given(DROPS, SHARES, st.integers(1, 10**6))
def test_what_the_images_allow_needs_these_images(
    max_drop: float, disagreement: float, images: int
) -> None:
    sure = highest_confidence(max_drop, disagreement, images)
    if 0.5 < sure < 1 - 1e-9:
        found = images_needed(max_drop, disagreement, sure)
        assert found == pytest.approx(images, rel=1e-4, abs=1)
        assert largest_disagreement(max_drop, images, sure) == pytest.approx(disagreement, rel=1e-4)


@given(DROPS, SHARES, st.integers(1, 10**6), CONFIDENCES)
def test_more_images_or_less_disagreement_are_surer(
    max_drop: float, disagreement: float, images: int, confidence: float
) -> None:
    sure = highest_confidence(max_drop, disagreement, images)
    assert 0.5 <= sure <= highest_confidence(max_drop, disagreement, images + 1)
    assert sure <= highest_confidence(max_drop, disagreement / 2, images)
    assert sure <= highest_confidence(1.1 * max_drop, disagreement, images)
    surer = (1 + confidence) / 2
    fewest = images_needed(max_drop, disagreement, confidence)
    assert fewest <= images_needed(max_drop, disagreement, surer)
    assert fewest <= images_needed(max_drop, disagreement, confidence, drop=max_drop / 2)
    assert largest_disagreement(max_drop, images, surer) <= largest_disagreement(
        max_drop, images, confidence
    )


def shown(images: int, lost: int, gained: int, max_drop: float) -> bool:
    """Whether the interval that compress gives, one-sided at 97.5 %, shows the claim."""
    both = images - lost - gained
    teacher, candidate = "1" * lost + "0" * gained, "0" * lost + "1" * gained
    return paired_drop(teacher + "1" * both, candidate + "1" * both).high <= max_drop


def chance_to_show(images: int, disagreement: float, max_drop: float) -> float:
    """Of all sets of so many images, the share that show the claim of one as accurate: exactly."""
    found = 0.0
    for discordant in range(images + 1):
        weight = stats.binom.pmf(discordant, images, disagreement)
        if weight < 1e-7:
            continue
        for lost in range(discordant + 1):
            if shown(images, lost, discordant - lost, max_drop):
                found += weight * comb(discordant, lost) / 2**discordant
    return found


@pytest.mark.parametrize(("max_drop", "disagreement"), [(0.05, 0.1), (0.04, 0.05), (0.15, 0.3)])
def test_half_of_all_sets_of_so_many_images_show_it(max_drop: float, disagreement: float) -> None:
    """Found were 52, 50 and 51 %: the drop seen is as often below the true one as above it."""
    images = images_needed(max_drop, disagreement, 0.975)
    assert 0.45 < chance_to_show(images, disagreement, max_drop) < 0.55
    assert chance_to_show(4 * images, disagreement, max_drop) > 0.9
    assert chance_to_show(images // 4, disagreement, max_drop) < 0.35
