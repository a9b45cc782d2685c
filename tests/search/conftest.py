"""A recipe with four families, whose rungs nobody trains: what each brings is read from a table."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from tests.search.laboratory import TRAIN, student


@pytest.fixture
def recipe(shapes: Path, write_recipe: Callable[..., Path]) -> Recipe:
    candidates = {
        "small": student(train={**TRAIN, "lr": [1e-3, 2e-3, 3e-3, 4e-3]}),
        "slow": student(image_size=[32, 64]),
        "int8": [{"quantize": {}}],
        "pruned": [
            {"prune": {"speedup": [2, 4, 8]}},
            {"distill": {"train": {**TRAIN, "lr": [1e-3, 2e-3]}}},
        ],
    }
    teacher = {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": TRAIN}
    written = {"name": "s", "data": {"path": str(shapes)}, "teacher": teacher}
    return load_recipe(write_recipe(written | {"candidates": candidates}))
