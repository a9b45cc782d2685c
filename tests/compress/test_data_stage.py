"""Data that a builder cuts out of a folder."""

from pathlib import Path

import yaml
from rich.console import Console

from compress.context import BUILT
from compress.measure.machine import machine
from compress.progress import Progress
from compress.recipe import load_recipe
from compress.run import context_of
from compress.stages import data
from teachers import whale_frames

SETTINGS = {"individuals": 3, "pictures": 12, "width": 160, "height": 107}


def recipe_of(folder: Path) -> Path:
    recipe = {
        "version": 1,
        "name": "crops",
        "data": {
            "path": "frames",
            "builder": "teachers.whale_frames:head_crops",
            "settings": {"size": 32},
            "points": {"tip": ["bonnet_tip_x", "bonnet_tip_y"]},
        },
        "teacher": {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": {"epochs": 1}},
        "candidates": {"int8": [{"quantize": {}}]},
    }
    (folder / "crops.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "crops.yaml"


def test_a_builder_makes_the_pictures_out_of_those_at_the_path(tmp_path: Path) -> None:
    whale_frames.frames(tmp_path / "frames", **SETTINGS)
    loaded = load_recipe(recipe_of(tmp_path))
    stage = data.plan(loaded.data, 0)
    assert "frames" in stage.title and "head_crops" in stage.title
    context = context_of(loaded, tmp_path, machine(), 1, Progress(Console(quiet=True)), ())
    (tmp_path / "stage").mkdir()
    data.run(stage, {}, tmp_path / "stage", context)
    made = context.data(tmp_path / "stage")
    assert made.root == tmp_path / "stage" / BUILT
    assert len(made.pictures) == 12
    assert all(path.is_file() for path in made.paths(made.indices("train", "validation")))
    assert made.coordinates.shape == (12, 1, 2)

    # The data are known by what they were made of, and of whom.
    (tmp_path / "frames" / "imgs" / "w_00000.jpg").unlink()
    assert data.plan(loaded.data, 0).key != stage.key


def test_other_pictures_are_cut_by_the_same_builder(tmp_path: Path) -> None:
    whale_frames.frames(tmp_path / "frames", **SETTINGS)
    whale_frames.frames(tmp_path / "others", **SETTINGS | {"seed": 5})
    path = recipe_of(tmp_path)
    other = load_recipe(path, data=tmp_path / "others").data
    assert other.path == str(tmp_path / "others")
    assert other.builder == "teachers.whale_frames:head_crops"
    assert data.plan(other, 0).key != data.plan(load_recipe(path).data, 0).key
