"""What is kept out of a search: every class sends its share, and rows of a part say so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.metrics.accuracy import paired_drop, wilson
from compress.search.parts import draw_parts, on_part
from compress.utils.errors import UserError
from tests.result_factory import result


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=20),
    keep=st.floats(0.2, 0.8),
    seed=st.integers(0, 99),
)
def test_every_class_sends_its_share(counts: list[int], keep: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    try:
        parts = draw_parts(labels.tolist(), keep, seed)
    except UserError:
        return
    both = np.concatenate([parts.searched, parts.kept])
    assert sorted(both.tolist()) == list(range(len(labels)))
    kept = np.bincount(labels[parts.kept], minlength=len(counts))
    assert np.abs(kept - keep * np.array(counts)).max() < 1 + 1e-9


def test_drawn_once_it_stays() -> None:
    labels = list(range(10)) * 10
    first, again, other = (draw_parts(labels, 0.5, seed) for seed in (0, 0, 1))
    assert first.kept.tolist() == again.kept.tolist() != other.kept.tolist()


@pytest.mark.parametrize(
    ("labels", "said"),
    [([0, 1] * 9, "There are 18 validation images"), ([0] * 200 + [1], "all of one class")],
)
def test_too_few_images_are_refused(labels: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        draw_parts(labels, 0.5, 1)


def test_rows_of_a_part_are_judged_on_it_alone() -> None:
    teacher = result("teacher", role="teacher", correct="1110" * 10, images=40)
    student = result("student", correct="1100" * 10, images=40)
    positions = np.arange(0, 40, 2)  # "11" of the teacher and "10" of the student, each
    before, after = on_part([teacher, student], positions, "searched")
    assert before.accuracy.correct == "11" * 10 and after.accuracy.correct == "10" * 10
    assert after.accuracy.images == 20 and after.accuracy.top1 == wilson(10, 20)
    assert after.accuracy.top1_drop == paired_drop("11" * 10, "10" * 10)
    assert after.data == f"{student.data}, searched"
    assert after.accuracy.top5 is None  # not known of a part
