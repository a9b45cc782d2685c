"""A part of the training images kept to choose settings by."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.dataset import Dataset, Sample
from compress.data.split import draw_split, set_aside
from compress.utils.errors import UserError


def dataset(counts: list[int], unlabelled: int = 0) -> Dataset:
    images = [Sample(f"{k}/{i}.png", f"class {k}") for k, n in enumerate(counts) for i in range(n)]
    images += [Sample(f"u/{i}.png") for i in range(unlabelled)]
    return draw_split(Dataset(Path("."), tuple(images)), 0.25, 0)


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 99),
)
def test_every_class_keeps_an_image_to_train_on_and_nothing_else_moves(
    counts: list[int], fraction: float, seed: int
) -> None:
    if max(counts) < 3:
        counts = [*counts, 30]
    data = dataset([*counts, 30], unlabelled=3)
    try:
        found = set_aside(data, fraction, seed)
    except UserError:
        return  # a fraction of no image
    for before, after in zip(data.images, found.images, strict=True):
        assert after == before or after == replace(before, split="tune")
        assert before.split == "train" or after.split == before.split
    trained = set(found.labels[found.indices("train")].tolist())
    assert trained == set(range(len(found.classes)))
    training = len(data.indices("train"))
    assert abs(len(found.indices("tune")) - fraction * training) <= len(found.classes)
    assert found.watched == "tune" and data.watched == "validation"
    assert set_aside(data, fraction, seed) == found


def test_a_fraction_of_no_image_is_refused() -> None:
    with pytest.raises(UserError, match="raise it"):
        set_aside(dataset([3, 3]), 1e-6, 0)
