"""What a recipe says of a network's input: its size, its channels, their scale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.recipe.load import load_recipe
from compress.recipe.schema import TeacherSettings, chosen
from compress.utils.errors import UserError
from compress.workflow.cache import Stage
from compress.workflow.stages import teacher
from tests.conftest import POINTS, tiny_recipe

Write = Callable[..., Path]


def of_teacher(write_recipe: Write, data: Path, **changes: Any) -> TeacherSettings:
    recipe = tiny_recipe(data)
    recipe["teacher"] |= changes
    return load_recipe(write_recipe(recipe)).teacher


def recipe_of_points(data: Path) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["data"] |= {"points": POINTS}
    return recipe


def test_one_number_each_means_grey(write_recipe: Write, tmp_path: Path) -> None:
    for changes in ({}, {"channels": "grey"}):
        given = of_teacher(write_recipe, tmp_path, mean=[0.5], std=[0.25], **changes)
        assert given.input_spec("crop").shape == (1, 32, 32)
        assert given.in_key()["channels"] == "grey"
        assert TeacherSettings.from_key(given.in_key()) == given


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": "grey"}, "channels: grey needs 1 number in mean and in std, not 3 and 3"),
        ({"mean": [0.5]}, "channels: grey needs 1 number in mean and in std, not 1 and 3"),
        (
            {"channels": "bgr", "mean": [0.5], "std": [0.5]},
            "channels: bgr needs 3 numbers in mean and in std, not 1 and 1",
        ),
        ({"channels": "rgba"}, "teacher.channels: input should be 'rgb', 'bgr' or 'grey'"),
        ({"mean": [123.675, 116.28, 103.53]}, "divide by 255"),
        ({"std": [58.4, 57.1, 57.4]}, "divide by 255"),
        ({"channels": "bgr", "mean": [0.4, -0.1, 0.5]}, "pixels are from 0 to 1"),
    ],
)
def test_what_no_network_is_fed_is_refused(
    changes: dict[str, Any], said: str, write_recipe: Write, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="1 fault") as caught:
        of_teacher(write_recipe, tmp_path, **changes)
    assert said in str(caught.value)


@pytest.mark.parametrize("scale", [1 / 255, 0.001, 1.0, 2.0])
def test_the_scales_that_networks_are_fed_in(
    scale: float, write_recipe: Write, tmp_path: Path
) -> None:
    given = of_teacher(write_recipe, tmp_path, mean=[0.0, 0.5, 1.0], std=[scale] * 3)
    assert given.input_spec("crop").std == (scale,) * 3


def test_stages_of_rgb_squares_are_named_as_they_always_were(
    write_recipe: Write, tmp_path: Path
) -> None:
    data = Stage("data", "data", 1, {})
    keys = set()
    for size in (32, [32, 32]):
        for channels in ({}, {"channels": "rgb"}):
            given = of_teacher(write_recipe, tmp_path, image_size=size, **channels)
            assert "channels" not in given.in_key() and given.in_key()["image_size"] == 32
            keys.add(teacher.plan(given, "crop", 0, data).key)
    assert len(keys) == 1
    for other in ({"image_size": [32, 48]}, {"channels": "bgr"}):
        given = of_teacher(write_recipe, tmp_path, **other)
        keys.add(teacher.plan(given, "crop", 0, data).key)
    assert len(keys) == 3


def test_height_and_width_of_teachers_students_and_phases(
    write_recipe: Write, tmp_path: Path
) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["teacher"]["image_size"] = [32, 48]
    [step] = recipe["candidates"]["shufflenet_v2_x0_5"]
    step["distill"]["image_size"] = [[16, 24], [32, 32]]  # a candidate of each
    step["distill"]["train"]["progressive"] = [{"epochs": 1, "image_size": [16, 32]}]
    loaded = load_recipe(write_recipe(recipe))
    assert loaded.teacher.input_spec("crop").size == (32, 48)
    students = [chosen(chain[0])[1] for chain in loaded.candidates.values()]
    assert [student.image_size for student in students] == [[16, 24], 32]
    assert students[0].train.progressive[0].image_size == [16, 32]


@pytest.mark.parametrize(
    "size", [4, 4096, [32], [32, 48, 64], [32, 4], "32", 32.0, True, [32, 48.5]]
)
def test_sizes_that_are_none(size: Any, write_recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 fault") as caught:
        of_teacher(write_recipe, tmp_path, image_size=size)
    said = "teacher.image_size: give the side of a square in pixels, from 8 to 2048, or [height, "
    assert f"{said}width], not {size!r}" in str(caught.value)


def test_places_are_learned_in_the_teachers_proportions_only(
    write_recipe: Write, tmp_path: Path
) -> None:
    recipe = recipe_of_points(tmp_path)
    recipe["teacher"]["image_size"] = [64, 96]
    [step] = recipe["candidates"]["shufflenet_v2_x0_5"]
    step["distill"] |= {"image_size": [32, 48]}
    step["distill"]["train"]["progressive"] = [{"epochs": 1, "image_size": [21, 32]}]
    load_recipe(write_recipe(recipe))
    step["distill"]["train"]["progressive"] = [{"epochs": 1, "image_size": 16}]
    step["distill"]["train"]["image_size"] = 48
    step["distill"] |= {"image_size": 32}
    with pytest.raises(UserError, match="3 faults") as caught:
        load_recipe(write_recipe(recipe))
    at = "candidates.shufflenet_v2_x0_5.0.distill"
    sides = (("image_size", 32), ("train.image_size", 48), ("train.progressive.0.image_size", 16))
    for where, side in sides:
        said = f"{at}.{where}: {side} x {side} has other proportions than the teacher's 64 x 96"
        assert said in str(caught.value)


def test_training_for_int8_is_held_to_the_task_as_any(write_recipe: Write, tmp_path: Path) -> None:
    recipe = recipe_of_points(tmp_path)
    recipe["teacher"]["image_size"] = [32, 48]
    train = {"epochs": 1, "image_size": 16}
    recipe["candidates"] = {"int8": [{"quantize": {"train": {"unlabelled": {}, "train": train}}}]}
    with pytest.raises(UserError, match="2 faults") as caught:
        load_recipe(write_recipe(recipe))
    at = "candidates.int8.0.quantize.train"
    assert f"{at}.unlabelled: a share is for classes, and keypoints has none" in str(caught.value)
    assert f"{at}.train.image_size: 16 x 16 has other proportions" in str(caught.value)


def test_policies_that_move_images_without_their_points(
    write_recipe: Write, tmp_path: Path
) -> None:
    recipe = recipe_of_points(tmp_path)
    recipe["teacher"]["train"]["augmentation"] = {"policy": "trivial"}
    with pytest.raises(UserError, match="1 fault") as caught:
        load_recipe(write_recipe(recipe))
    assert "teacher.train.augmentation.policy: moves an image without" in str(caught.value)
