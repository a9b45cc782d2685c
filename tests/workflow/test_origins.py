"""What results say of the images and weights that a network was made of."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from compress.recipe.load import load_recipe
from compress.results.schema import Origin
from compress.workflow.origins import origins_of
from compress.workflow.stages import data, teacher
from tests.conftest import tiny_recipe

Write = Callable[..., Path]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "given.safetensors"
    noted = {"license": "CC BY 4.0", "source": "a paper of 2014"}
    save_file({"weight": torch.zeros(1)}, path, noted)
    return path


def recipe(write_recipe: Write, shapes: Path, weights: Path | str | None, **said: Any) -> Path:
    """A recipe; said is of the weights, and in capitals of the images."""
    written = tiny_recipe(shapes)
    written["data"] |= {k.lower(): v for k, v in said.items() if k.isupper()}
    written["teacher"] |= {k: v for k, v in said.items() if k.islower()}
    if weights is not None:
        written["teacher"]["weights"] = str(weights)
    return write_recipe(written)


def test_weights_say_their_licence_themselves(
    write_recipe: Write, shapes: Path, weights: Path
) -> None:
    images = Origin(what=f"images: {shapes.name}")
    loaded = load_recipe(recipe(write_recipe, shapes, weights))
    assert origins_of(loaded) == [
        images,
        Origin(what="weights: given.safetensors", licence="CC BY 4.0", source="a paper of 2014"),
    ]
    assert origins_of(load_recipe(recipe(write_recipe, shapes, None))) == [images]


def test_a_row_names_what_its_student_and_its_teachers_begin_with(
    write_recipe: Write, shapes: Path, weights: Path
) -> None:
    loaded = yaml.safe_load(recipe(write_recipe, shapes, None).read_text())
    (first,) = loaded["candidates"].values()
    taught = copy.deepcopy(first)
    first[0]["distill"] |= {"weights": str(weights), "mean": [0.5] * 3, "std": [0.2] * 3}
    taught[0]["distill"] |= {"teacher": "first", "weights": "torchvision:Some_Weights.DEFAULT"}
    loaded["candidates"] = {"first": first, "taught": taught}
    images = Origin(what=f"images: {shapes.name}")
    given = Origin(what="weights: given.safetensors", licence="CC BY 4.0", source="a paper of 2014")
    said = load_recipe(write_recipe(loaded))
    assert origins_of(said, "first") == [images, given]
    offered = Origin(what="weights: torchvision:Some_Weights.DEFAULT")
    assert origins_of(said, "taught") == [images, offered, given]
    assert origins_of(said, "teacher") == [images]


def test_what_a_recipe_says_counts_more(write_recipe: Write, shapes: Path, weights: Path) -> None:
    said = {"licence": "MIT", "LICENCE": "CC0", "SOURCE": "my camera"}
    assert origins_of(load_recipe(recipe(write_recipe, shapes, weights, **said))) == [
        Origin(what=f"images: {shapes.name}", licence="CC0", source="my camera"),
        Origin(what="weights: given.safetensors", licence="MIT", source="a paper of 2014"),
    ]


def test_what_says_nothing_is_unknown(write_recipe: Write, shapes: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "given.pth")
    for given, name in (
        (tmp_path / "given.pth", "given.pth"),
        ("torchvision:VGG16_Weights.IMAGENET1K_V1", "torchvision:VGG16_Weights.IMAGENET1K_V1"),
    ):
        loaded = load_recipe(recipe(write_recipe, shapes, given))
        assert origins_of(loaded)[1] == Origin(what=f"weights: {name}")


def test_other_images_have_a_licence_of_their_own(write_recipe: Write, shapes: Path) -> None:
    path = recipe(write_recipe, shapes, None, LICENCE="CC0", SOURCE="my camera")
    assert origins_of(load_recipe(path, data=shapes)) == [Origin(what=f"images: {shapes.name}")]


def test_no_key_changes(write_recipe: Write, shapes: Path, weights: Path) -> None:
    """What was computed is used again when somebody says whose the images are."""
    said = {"licence": "MIT", "source": "a", "LICENCE": "CC0", "SOURCE": "b"}
    keys = set()
    for more in ({}, said):
        loaded = load_recipe(recipe(write_recipe, shapes, weights, **more))
        images = data.plan(loaded.data, 0)
        trained = teacher.plan(loaded.teacher, "crop", 0, images)
        assert not {"licence", "source"} & (images.settings.keys() | trained.settings.keys())
        keys.add((images.key, trained.key))
    assert len(keys) == 1
