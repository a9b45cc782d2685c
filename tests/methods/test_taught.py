"""What training learns from: as many steps for a control, and another teacher before int8."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from compress.methods.distill import train
from compress.methods.distill.settings import Settings
from compress.methods.quantize.settings import Settings as Int8
from compress.recipe.load import load_recipe
from compress.utils.errors import UserError
from tests.workflow.test_pretrained_run import planned, with_student


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.75, 0.9, 0.95])
@pytest.mark.parametrize("labelled", [17, 100, 1600])
@pytest.mark.parametrize("batch_size", [2, 16, 64])
def test_a_control_takes_as_many_steps_of_batches_as_large(
    share: float, labelled: int, batch_size: int
) -> None:
    settings = Settings.model_validate(
        {
            "student": "a:b", "image_size": 32, "unlabelled": {"share": share},
            "train": {"epochs": 1, "batch_size": batch_size},
        }
    )  # fmt: skip
    positions = {"train": np.arange(labelled), "unlabelled": np.arange(labelled, labelled + 50)}
    data = SimpleNamespace(indices=lambda name: positions[name], images=range(labelled + 50))
    given: Any = SimpleNamespace(data=data, pixels=None)
    context: Any = SimpleNamespace(seed=0, device=torch.device("cpu"))
    student: Any = SimpleNamespace(spec=None)
    found = [
        train._feed(student, each, given, context, from_teacher, positions["unlabelled"])
        for each, from_teacher in ((settings, True), (settings.without_teacher(), False))
    ]
    taught, control = found
    assert (control.steps, control.batch_size) == (taught.steps, taught.batch_size)
    assert control.beside is None and control.bank is None
    assert np.array_equal(control.pool, positions["train"])


def with_int8(data: Path, **train: Any) -> dict[str, Any]:
    """Two students, and the first one again in int8, trained for it."""
    recipe = with_student(data)
    first = recipe["candidates"]["shufflenet_v2_x0_5"]
    other = copy.deepcopy(first)
    other[0]["distill"]["train"]["lr"] = 5e-4
    schedule = {"epochs": 1, "batch_size": 8}
    int8 = [*copy.deepcopy(first), {"quantize": {"train": {"train": schedule, **train}}}]
    recipe["candidates"] = {"int8": int8, "first": first, "second": other}
    return recipe


@pytest.mark.parametrize("teacher", ["second", ["second", "teacher"]])
@pytest.mark.parametrize(
    ("views", "role"), [("cached", "teacher_outputs"), ("online", "taught_by")]
)
def test_training_for_int8_learns_from_who_is_named(
    shapes: Path,
    tmp_path: Path,
    write_recipe: Callable[..., Path],
    teacher: str | list[str],
    views: str,
    role: str,
) -> None:
    recipe = with_int8(shapes, teacher=teacher, teacher_outputs=views)
    plan, _, _ = planned(write_recipe(recipe), tmp_path)
    by_name = {entry.candidate: entry.model for entry in plan.entries}
    trained = by_name["int8"].inputs["previous"]
    assert trained.kind == "prepare"
    named = ["second", "teacher"] if isinstance(teacher, list) else ["second"]
    stages = [trained.inputs[name] for name in (role, f"{role}_1")[: len(named)]]
    if views == "cached":
        stages = [stage.inputs["teacher"] for stage in stages]
    assert [stage.key for stage in stages] == [by_name[name].key for name in named]


def test_without_one_the_key_does_not_know_of_it() -> None:
    given = {"train": {"train": {"epochs": 1}}}
    assert "teacher" not in Int8.model_validate(given).in_key()["train"]
    given["train"]["teacher"] = "second"  # type: ignore[assignment]
    found = Int8.model_validate(given)
    assert Int8.from_key(found.in_key()) == found


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("secnd", "1.quantize.train.teacher: .*did you mean 'second'"),
        ("int8", "would learn from itself"),
        ("third", "int8 would learn from itself by way of third"),
    ],
)
def test_who_cannot_teach_before_int8(
    shapes: Path, write_recipe: Callable[..., Path], teacher: str, said: str
) -> None:
    recipe = with_int8(shapes, teacher=teacher)
    third = copy.deepcopy(recipe["candidates"]["first"])
    third[0]["distill"]["teacher"] = "int8"
    if teacher == "third":
        recipe["candidates"]["third"] = third
    with pytest.raises(UserError, match=said):
        load_recipe(write_recipe(recipe))


def test_attention_before_int8_is_compared_with_one_teacher() -> None:
    given = {"loss": {"name": "points_and_attention"}, "teacher": ["first", "second"]}
    with pytest.raises(ValidationError, match="compares with one teacher"):
        Int8.model_validate({"train": given | {"train": {"epochs": 1}}})
