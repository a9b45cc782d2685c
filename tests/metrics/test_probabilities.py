"""Probabilities told from logits by their values, and turned into them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compress.metrics.probabilities import (
    LEAST,
    MOST,
    Scale,
    logits_of,
    note_on,
    probabilities_of,
    scale_of,
)

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, classes: int, deviation: float = 4.0) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((24, classes)) * deviation
    return logits.astype(np.float32)


@given(seeds, st.integers(2, 200), st.sampled_from(["float32", "float16"]))
def test_a_softmax_is_recognised_and_undone(seed: int, classes: int, dtype: str) -> None:
    p = probabilities_of(drawn(seed, classes), "softmax").astype(dtype).astype(np.float32)
    assert scale_of(p) == "softmax"
    made = logits_of(p, "softmax")
    assert made.dtype == np.float32 and np.isfinite(made).all()
    np.testing.assert_allclose(np.exp(made), p, rtol=1e-4, atol=1e-30)


@given(seeds, st.integers(3, 200))
def test_a_sigmoid_is_recognised_and_undone(seed: int, classes: int) -> None:
    logits = drawn(seed, classes, 3)
    p = probabilities_of(logits, "sigmoid").astype(np.float32)
    assert scale_of(p) == "sigmoid"
    made, exact = logits_of(p, "sigmoid"), np.clip(p.astype(float), LEAST, MOST)
    np.testing.assert_allclose(made, np.log(exact / (1 - exact)), atol=1e-5, rtol=1e-5)
    kept = np.abs(logits) < 15  # beyond, float32 has no probability between its own and 1
    np.testing.assert_allclose(made[kept], logits[kept], atol=0.01, rtol=0.03)


@given(seeds, st.integers(2, 200), st.floats(0.01, 20), st.floats(-2, 2))
def test_logits_stay_as_they_are(seed: int, classes: int, deviation: float, mean: float) -> None:
    logits = drawn(seed, classes, deviation) + np.float32(mean)
    assume(logits.min() < -0.01 or logits.max() > 1.01 or deviation < 0.05)
    assert scale_of(logits) is None
    assert logits_of(logits, None) is logits


def test_few_logits_that_lie_between_0_and_1_by_chance_are_taken_for_probabilities() -> None:
    inside = [
        logits
        for seed in range(400)
        for classes in (2, 3, 10)
        for deviation in (0.1, 0.125, 0.2, 0.25)
        if (logits := drawn(seed, classes, deviation) + 0.5).min() >= 0 and logits.max() <= 1
    ]
    assert len(inside) > 1000
    assert sum(scale_of(logits) is not None for logits in inside) <= 0.01 * len(inside)
    assert scale_of(drawn(0, 3, 0.125) + np.float32(0.5)) is None  # by 0.55 apart


def test_a_softmax_in_steps_of_int8_is_still_one() -> None:
    p = probabilities_of(drawn(0, 6), "softmax")
    assert scale_of(np.rint(p * 256) / 256) == "softmax"


def test_logits_that_happen_to_lie_between_0_and_1_are_logits_and_it_is_said() -> None:
    logits = np.random.default_rng(0).uniform(0.2, 0.6, (24, 5)).astype(np.float32)
    assert scale_of(logits) is None
    said = note_on(logits)
    assert said is not None and "are taken for logits" in said
    assert note_on(logits - 1) is None


@pytest.mark.parametrize("scale", ["softmax", "sigmoid"])
def test_certainty_has_finite_logits(scale: Scale) -> None:
    made = logits_of(np.eye(3, dtype=np.float32), scale)
    assert np.isfinite(made).all() and (made.argmax(1) == [0, 1, 2]).all()
    assert made[0, 1] == pytest.approx(np.log(LEAST))


def test_what_holds_no_classes_is_no_probability() -> None:
    for answers in (np.ones((5, 1)), np.full((5, 3), np.nan), np.ones((5, 2, 2)) / 2):
        assert scale_of(answers) is None and note_on(answers) is None
