"""Accuracy, its intervals and slices against independent formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.metrics.accuracy import agreement, calibration_error, paired_drop, score, wilson
from compress.results.schema import Slice


def test_accuracy_against_loops() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 9)), rng.integers(0, 7, 60)
    logits[np.arange(60), labels] += 1.0
    got = score(logits, labels)
    ranks = [sorted(row, reverse=True).index(row[y]) for row, y in zip(logits, labels, strict=True)]
    assert got.top1.value == np.mean([r == 0 for r in ranks])
    assert got.top5 == np.mean([r < 5 for r in ranks])
    losses = [-np.log(np.exp(r[y]) / np.exp(r).sum()) for r, y in zip(logits, labels, strict=True)]
    assert got.log_loss == pytest.approx(np.mean(losses))
    recalls = []
    for label in set(labels.tolist()):
        hits = [r == 0 for r, y in zip(ranks, labels, strict=True) if y == label]
        recalls.append(np.mean(hits))
    assert got.macro_recall == pytest.approx(np.mean(recalls))
    assert got.correct == "".join("1" if r == 0 else "0" for r in ranks)


def test_huge_logits_give_a_finite_loss() -> None:
    assert np.isfinite(score(np.array([[1e4, -1e4], [0.0, 3e4]]), np.array([1, 1])).log_loss)


def test_wilson_by_hand() -> None:
    interval = wilson(8, 10)
    z, p, n = 1.959964, 0.8, 10
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half), abs=1e-5)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=60))
@settings(deadline=None)
def test_paired_drop_is_the_difference_and_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    a = "".join("1" if x else "0" for x, _ in pairs)
    b = "".join("1" if y else "0" for _, y in pairs)
    drop, back = paired_drop(a, b), paired_drop(b, a)
    assert drop.value == pytest.approx((a.count("1") - b.count("1")) / len(a))
    assert drop.low <= drop.value <= drop.high
    assert (back.value, back.low, back.high) == pytest.approx((-drop.value, -drop.high, -drop.low))


def test_two_that_never_disagree_are_still_uncertain() -> None:
    drop = paired_drop("1" * 12 + "0" * 4, "1" * 12 + "0" * 4)
    # Agresti & Min: half an image in each cell, so 1 discordant pair of 18.
    half = 1.959964 * np.sqrt(1 / 18**2)
    assert (drop.low, drop.value, drop.high) == pytest.approx((-half, 0, half), abs=1e-6)


def test_paired_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    lost, gained, n = 0.12, 0.05, 200
    hits = 0
    for _ in range(1000):
        kinds = rng.choice(3, n, p=[lost, gained, 1 - lost - gained])
        teacher = "".join("101"[k] for k in kinds)
        student = "".join("011"[k] for k in kinds)
        drop = paired_drop(teacher, student)
        hits += drop.low <= lost - gained <= drop.high
    assert 930 <= hits <= 970


def test_a_paired_interval_is_sharper_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.5
    b = np.where(rng.random(400) < 0.02, ~a, a)  # the same answers but for a few
    text = ["".join("1" if x else "0" for x in v) for v in (a, b)]
    drop = paired_drop(*text)
    assert drop.high - drop.low < 0.04 < wilson(int(a.sum()), 400).high - a.mean()


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_calibration_error_against_loops() -> None:
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(300, 4)), rng.integers(0, 4, 300)
    logits[:30] = [50, 0, 0, 0]  # a confidence of exactly 1 belongs to the last bin
    p = softmax(logits)
    confidence, correct = p.max(1), p.argmax(1) == labels
    expected = 0.0
    for k in range(15):
        inside = [i for i, c in enumerate(confidence) if k / 15 < c <= (k + 1) / 15]
        if inside:
            gap = np.mean(correct[inside]) - np.mean(confidence[inside])
            expected += len(inside) / 300 * abs(gap)
    assert score(logits, labels).calibration_error == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_is_a_share(images: list[tuple[float, bool]]) -> None:
    confidence, correct = (np.array(x) for x in zip(*images, strict=True))
    assert 0 <= calibration_error(confidence, correct) <= 1
    assert calibration_error(correct.astype(float), correct) == 0
    assert calibration_error(1.0 - correct, correct) == 1


def test_answers_are_kept_and_compared() -> None:
    logits = np.eye(4)[[2, 0, 3, 3]]
    got = score(logits, np.array([2, 1, 3, 0]))
    assert (got.answers, got.correct) == ([2, 0, 3, 3], "1010")
    assert agreement(got.answers, [2, 1, 3, 3]) == 0.75
    assert agreement(got.answers, []) is None  # a result of before they were kept


def test_slices_are_by_training_images() -> None:
    # Class 0 has 7 training images, 1 has 4, 2 has 1, 3 none, and 4 (with 2) is not judged.
    trained_on = np.array([0] * 7 + [1] * 4 + [2] + [4] * 2)
    labels = np.array([0, 0, 0, 1, 2, 2, 3])
    right = np.array([1, 1, 0, 1, 0, 1, 0], bool)
    logits = np.eye(5)[np.where(right, labels, (labels + 1) % 5)]
    got = score(logits, labels, trained_on=trained_on).slices
    assert got == [
        Slice(name="never trained on", fewest=0, most=0, classes=1, images=1, top1=wilson(0, 1)),
        Slice(name="single image", fewest=1, most=1, classes=1, images=2, top1=wilson(1, 2)),
        Slice(name="rare", fewest=2, most=4, classes=1, images=1, top1=wilson(1, 1)),
        Slice(name="frequent", fewest=5, most=None, classes=1, images=3, top1=wilson(2, 3)),
    ]


@given(
    st.lists(st.integers(0, 9), max_size=60),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40),
)
def test_every_image_is_in_one_slice(trained: list[int], judged: list[tuple[int, bool]]) -> None:
    labels = np.array([label for label, _ in judged])
    logits = np.eye(10)[[label if right else (label + 1) % 10 for label, right in judged]]
    got = score(logits, labels, trained_on=np.array(trained, int))
    assert sum(x.images for x in got.slices) == len(labels)
    assert sum(x.classes for x in got.slices) == len(set(labels.tolist()))
    right = sum(x.top1.value * x.images for x in got.slices)
    assert right == pytest.approx(got.top1.value * len(labels))


def test_without_training_images_there_are_no_slices() -> None:
    assert score(np.eye(2), np.array([0, 1])).slices == []
