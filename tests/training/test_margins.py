"""Margins between classes: the formulas, the head that they need, and what is deployed of it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from compress.data.input_spec import InputSpec
from compress.export.onnx import check_export, export_onnx
from compress.methods.distill.settings import Settings
from compress.models.candidate import Candidate
from compress.models.cosine_layer import CosineLinear, cosine_head
from compress.models.structure import restructure
from compress.recipe.load import load_recipe
from compress.runtimes.onnxruntime import OnnxSession
from compress.tasks.margins import ArcFace, CosFace, Margin
from compress.training.margins import with_margin
from compress.utils.errors import UserError
from tests.conftest import CLASSES, POINTS
from tests.workflow.test_pretrained_run import made, planned, with_student

MARGINS: list[Margin] = [
    CosFace(name="cosface", margin=0.3, scale=16),
    ArcFace(name="arcface", margin_degrees=20, scale=16),
]


def by_hand(cosines: np.ndarray, targets: np.ndarray, margin: Margin) -> float:
    """The papers' formulas, an image and a class at a time."""
    losses = []
    for row, target in zip(cosines, targets, strict=True):
        if target < 0:
            continue
        right = row[target]
        if isinstance(margin, CosFace):
            right -= margin.margin
        else:
            angle, more = math.acos(right), math.radians(margin.margin_degrees)
            past = angle + more > math.pi  # where the cosine would grow again
            right = math.cos(angle) - more * math.sin(more) if past else math.cos(angle + more)
        logits = [margin.scale * (right if i == target else x) for i, x in enumerate(row)]
        losses.append(math.log(sum(math.exp(x) for x in logits)) - logits[target])
    return sum(losses) / len(losses)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), which=st.sampled_from([0, 1]))
def test_the_right_class_must_win_by_the_margin(seed: int, which: int) -> None:
    rng, margin = np.random.default_rng(seed), MARGINS[which]
    cosines = rng.uniform(-0.99, 0.99, (6, 4))
    targets = rng.integers(-1, 4, 6)
    targets[0] = 2
    logits = torch.from_numpy(cosines * margin.scale).requires_grad_()
    loss = with_margin(logits, torch.from_numpy(targets), margin, 0.0)
    assert float(loss.detach()) == pytest.approx(by_hand(cosines, targets, margin), rel=1e-6)
    loss.backward()
    assert logits.grad is not None and not logits.grad[targets < 0].any()
    assert (logits.grad[targets >= 0, targets[targets >= 0]] < 0).all()


def test_without_labels_there_is_no_loss() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    loss = with_margin(logits, torch.full((3,), -1), MARGINS[0], 0.0)
    assert float(loss.detach()) == 0 and loss.requires_grad


def test_logits_are_scaled_cosines_before_and_after_export(tmp_path: Path) -> None:
    builder = "students.shufflenet:shufflenet_v2_x0_5"
    spec = InputSpec(height=32, width=32, mean=(0.4,) * 3, std=(0.2,) * 3, classes=CLASSES)
    candidate = Candidate.create(builder, {}, spec, ("student",), 0, ())
    cosine_head(candidate.model, "fc", 16)
    head = candidate.model.get_submodule("fc")
    assert isinstance(head, CosineLinear)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[1.0], [5.0], [0.1]]))  # of any length
    seen: list[torch.Tensor] = []
    head.register_forward_hook(lambda _, inputs, given: seen.extend([inputs[0], given]))
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        candidate.model.eval()(torch.from_numpy(images))
    features, logits = (x.double().numpy() for x in seen)
    weight = head.weight.detach().double().numpy()
    lengths = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(weight, axis=1)
    np.testing.assert_allclose(logits, 16 * features @ weight.T / lengths, rtol=1e-4, atol=1e-4)

    file = tmp_path / "student.onnx"
    export_onnx(candidate, file)
    assert check_export(candidate, file, images) < 1e-4
    np.testing.assert_allclose(
        OnnxSession(file, 1).run(images)["logits"], logits, rtol=1e-3, atol=1e-3
    )


def test_a_saved_head_is_built_again() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    cosine_head(first, "1", 16)
    again = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    restructure(again, [("1", "cosine")], first.state_dict())  # type: ignore[list-item]
    again.load_state_dict(first.state_dict())
    images = torch.randn(2, 3, 2, 2)
    assert torch.equal(first(images), again(images))


def test_a_head_that_is_no_linear_layer_is_refused() -> None:
    with pytest.raises(UserError, match="is a Conv2d, and cosines are those of a linear layer"):
        cosine_head(nn.Sequential(nn.Conv2d(3, 3, 1)), "0")


def test_a_pretrained_student_learns_with_a_margin(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    margin = {"name": "cosface", "scale": 16}
    recipe = with_student(shapes, margin=margin, hard_weight=0.5, views=1)
    path = write_recipe(recipe)
    student, _, _ = made(path, tmp_path, "shufflenet_v2_x0_5")
    head = student.model.get_submodule("fc")
    assert isinstance(head, CosineLinear) and float(head.scale) == 16
    assert student.provenance.replaced == (("fc", "cosine"),)
    with_it, _, _ = planned(path, tmp_path)
    del recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]["margin"]
    without, _, _ = planned(write_recipe(recipe), tmp_path)
    assert with_it.entries[-1].model.key != without.entries[-1].model.key


@pytest.mark.parametrize("head", ["fc", ["conv5", "fc"], ["fc", "conv5"]])
def test_of_a_head_of_several_modules_the_last_layer_becomes_cosines(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path], head: str | list[str]
) -> None:
    margin = {"name": "cosface", "scale": 16}
    recipe = with_student(shapes, margin=margin, hard_weight=0.5, views=1, head=head)
    student, _, _ = made(write_recipe(recipe), tmp_path, "shufflenet_v2_x0_5")
    assert student.provenance.replaced == (("fc", "cosine"),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student": None, "student_settings": {}}, "for a student, whose head is drawn anew"),
        ({"hard_weight": 0.0}, "has no weight: give hard_weight"),
        ({"margin": {"name": "cosface", "margin": 1.5}}, "less than 1"),
        ({"margin": {"name": "cosface", "margin_degrees": 5}}, "margin_degrees"),
    ],
)
def test_margins_that_mean_nothing(change: dict[str, Any], said: str) -> None:
    asked = {
        "student": "students.shufflenet:shufflenet_v2_x0_5",
        "image_size": 32,
        "margin": {"name": "cosface"},
        "hard_weight": 0.5,
        "train": {"epochs": 1},
    }
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(asked | change)


def test_points_have_no_classes_to_hold_apart(
    dots: Path, write_recipe: Callable[..., Path]
) -> None:
    recipe = with_student(dots / "points.csv", margin={"name": "arcface"}, hard_weight=0.5)
    recipe["data"]["points"] = POINTS
    with pytest.raises(UserError, match="between classes, and keypoints has none"):
        load_recipe(write_recipe(recipe))
