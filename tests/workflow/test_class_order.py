"""Weights that name their classes are used in that order, whatever the order of the data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from rich.console import Console

from compress.data.input_spec import InputSpec
from compress.measure.machine import machine
from compress.models.builders import build
from compress.models.candidate import Candidate
from compress.models.checkpoint import save_tensors
from compress.models.onnx_teacher import like_ours
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.tasks import task_of
from compress.utils.progress import Progress
from compress.workflow.plan import files_of
from compress.workflow.run import context_of
from compress.workflow.stages import data, onnx_teacher, teacher
from tests.conftest import tiny_recipe

ORDER = ("dot", "bar", "cross")
Write = Callable[..., Path]


def as_weights(recipe: dict[str, Any], folder: Path) -> None:
    net = build(recipe["builder"], recipe["settings"], 3, ())
    save_tensors(folder / "net.safetensors", net.state_dict(), {"classes": list(ORDER)})
    recipe |= {"weights": "net.safetensors"}
    del recipe["train"]


def as_onnx(recipe: dict[str, Any], folder: Path) -> None:
    net = build(recipe["builder"], recipe["settings"], 3, ()).eval()
    path = folder / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=13)
    spec = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=ORDER)
    onnx.save(like_ours(onnx.load(path), spec), path)
    recipe.clear()
    recipe |= {"onnx": "net.onnx", "image_size": 32}


@pytest.mark.parametrize("given", [as_weights, as_onnx])
def test_the_teacher_keeps_the_order_of_its_weights(
    given: Callable[[dict[str, Any], Path], None], write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(shapes)
    given(recipe["teacher"], tmp_path)
    recipe["candidates"] = {"int8": [{"quantize": {}}]}
    made = stored_teacher(load_recipe(write_recipe(recipe)), tmp_path / "out")
    assert made.classes == ORDER
    read = task_of(made).read_more(shapes, ())
    targets = task_of(made).targets(read)
    assert read.classes != ORDER
    assert {p.label: int(t) for p, t in zip(read.images, targets, strict=True)} == {
        "dot": 0, "bar": 1, "cross": 2, None: -1,
    }  # fmt: skip


def stored_teacher(recipe: Recipe, out: Path) -> InputSpec:
    """The spec of the teacher that the stages of a run make."""
    quiet = Progress(Console(quiet=True))
    context = context_of(recipe, out, machine(), 1, quiet, (), files_of(recipe))
    stages: dict[str, Any] = {"data": data.plan(recipe.data, 0)}
    if recipe.teacher.onnx is None:
        stages["teacher"] = teacher.plan(recipe.teacher, "crop", 0, stages["data"])
    else:
        stages["teacher"] = onnx_teacher.plan(recipe.teacher, "crop", stages["data"])
    for name, stage in stages.items():
        (out / name).mkdir(parents=True)
        stage.run(stage, {"data": out / "data"}, out / name, context)
    return Candidate.load(out / "teacher", ()).spec
