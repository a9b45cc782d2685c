"""What a teacher's file notes of its images counts where the recipe says nothing of them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from compress.data.input_spec import METADATA_KEY, InputSpec, preprocess
from compress.export.artifact import spec_of
from compress.measure.machine import machine
from compress.models.builders import build
from compress.models.candidate import Candidate
from compress.models.onnx_teacher import like_ours
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.plan import files_of, plan_teacher
from compress.workflow.run import context_of
from tests.conftest import CLASSES, tiny_recipe
from tests.outputs import only

Write = Callable[..., Path]
OURS = InputSpec(
    height=32, width=32, mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1), channels="bgr", classes=CLASSES
)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def as_onnx(spec: InputSpec, folder: Path) -> dict[str, Any]:
    """A recipe's teacher: a network as we export it."""
    teacher = tiny_recipe(folder)["teacher"]
    net = build(teacher["builder"], teacher["settings"], 3, ()).eval()
    path = folder / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=13)
    onnx.save(like_ours(onnx.load(path), spec), path)
    return {"onnx": "net.onnx", "image_size": 32}


def as_weights(spec: InputSpec, folder: Path) -> dict[str, Any]:
    """A recipe's teacher: weights as we save them."""
    teacher = tiny_recipe(folder)["teacher"]
    del teacher["train"]
    net = build(teacher["builder"], teacher["settings"], 3, ())
    save_file(net.state_dict(), folder / "net.safetensors", {"spec": spec.model_dump_json()})
    return teacher | {"weights": "net.safetensors"}


given_as = pytest.mark.parametrize("given", [as_onnx, as_weights])


@pytest.fixture
def made(
    write_recipe: Write, shapes: Path, tmp_path: Path
) -> Callable[..., tuple[Candidate, Recipe, str]]:
    """Makes a teacher by the stages of a run; with its recipe, and what was said."""

    def make(teacher: dict[str, Any], **of_data: Any) -> tuple[Candidate, Recipe, str]:
        recipe = tiny_recipe(shapes) | {"teacher": teacher}
        recipe["candidates"] = {"int8": [{"quantize": {}}]}
        recipe["data"] |= of_data
        loaded, out = load_recipe(write_recipe(recipe)), tmp_path / "out"
        said = io.StringIO()
        progress = Progress(Console(file=said, width=1000))
        context = context_of(loaded, out, machine(), 1, progress, (), files_of(loaded))
        stage = plan_teacher(loaded)
        for name, each in (("data", stage.inputs["data"]), ("teacher", stage)):
            (out / name).mkdir(parents=True, exist_ok=True)
            each.run(each, {"data": out / "data"}, out / name, context)
        return Candidate.load(out / "teacher", ()), loaded, said.getvalue()

    return make


@given_as
def test_where_the_recipe_says_nothing_the_file_counts(
    given: Callable[..., dict[str, Any]], made: Callable[..., Any], tmp_path: Path
) -> None:
    candidate, _, said = made(given(OURS, tmp_path))
    assert candidate.spec == OURS
    assert (
        "notes how its images were prepared, and they are: channels bgr, mean [0.5, 0.4, 0.3], "
        "std [0.3, 0.2, 0.1]" in said
    )


def test_the_file_answers_as_before_and_notes_the_same(
    made: Callable[..., Any], shapes: Path, tmp_path: Path
) -> None:
    """The loop is closed: export, teacher, and what is written back."""
    candidate, *_ = made(as_onnx(OURS, tmp_path))
    file = tmp_path / "out/teacher" / candidate.deployed
    assert spec_of(file) == OURS
    photographs = sorted((shapes / "dot").iterdir())[:4]
    fed = preprocess(photographs, spec_of(file))
    blue_first = np.stack([(fed[:, 0] * 0.3 + 0.5), (fed[:, 2] * 0.1 + 0.3)], 1)
    plain = preprocess(
        photographs, OURS.model_copy(update={"mean": (0,) * 3, "std": (1,) * 3, "channels": "rgb"})
    )
    np.testing.assert_allclose(blue_first, plain[:, [2, 0]], atol=1e-6)
    answers = only(OnnxSession(tmp_path / "net.onnx", threads=1).run(fed))
    np.testing.assert_allclose(only(OnnxSession(file, threads=1).run(fed)), answers, atol=1e-5)


@given_as
def test_what_the_recipe_says_counts_more_and_that_is_said(
    given: Callable[..., dict[str, Any]], made: Callable[..., Any], tmp_path: Path
) -> None:
    teacher = given(OURS, tmp_path) | {"channels": "rgb", "std": [0.25, 0.25, 0.25]}
    spec = OURS.model_copy(update={"fit": "letterbox"})
    given(spec, tmp_path)
    candidate, _, said = made(teacher, fit="stretch")
    # The mean stays each colour's own.
    expected = {"channels": "rgb", "mean": (0.3, 0.4, 0.5), "std": (0.25,) * 3, "fit": "stretch"}
    assert candidate.spec == OURS.model_copy(update=expected)
    assert (
        "prepared otherwise than the recipe says: channels bgr and not rgb, std [0.1, 0.2, 0.3] "
        "and not [0.25, 0.25, 0.25], fit letterbox and not stretch. The recipe counts" in said
    )


@given_as
def test_of_a_mean_on_the_scale_of_bytes(
    given: Callable[..., dict[str, Any]], made: Callable[..., Any], tmp_path: Path
) -> None:
    bytes_ = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    teacher = given(OURS.model_copy(update=bytes_ | {"channels": "rgb"}), tmp_path)
    with pytest.raises(UserError, match=r"(net\.\w+|teacher\.onnx) notes .* on the scale of bytes"):
        made(teacher)
    mean, std = IMAGENET
    candidate, *_ = made(teacher | {"mean": mean, "std": std})
    assert candidate.spec.mean == tuple(mean) and candidate.spec.std == tuple(std)


@given_as
def test_what_is_usual_changes_no_key(
    given: Callable[..., dict[str, Any]], shapes: Path, write_recipe: Write, tmp_path: Path
) -> None:
    mean, std = (tuple(x) for x in IMAGENET)
    usual = OURS.model_copy(update={"mean": mean, "std": std, "channels": "rgb"})
    recipe = tiny_recipe(shapes) | {"teacher": given(usual, tmp_path)}
    recipe["candidates"] = {"int8": [{"quantize": {}}]}
    settings = plan_teacher(load_recipe(write_recipe(recipe))).settings
    assert (settings["mean"], settings["std"]) == IMAGENET and "channels" not in settings


def test_a_spec_that_is_none(made: Callable[..., Any], tmp_path: Path) -> None:
    teacher = as_onnx(OURS, tmp_path)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: '{"height": 32}'})
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"are no input spec \(width: Field required\): export it"):
        made(teacher)
