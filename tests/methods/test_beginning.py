"""What a student cannot begin with is refused while planning, before any teacher is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import vgg

import teachers.vgg
from compress.methods.distill.settings import Settings
from compress.models.checkpoint import save_tensors
from compress.models.pretrained import converted
from compress.recipe.load import load_recipe
from compress.utils.errors import UserError
from students.shufflenet import shufflenet_v2_x0_5
from tests.conftest import POINTS
from tests.workflow.test_pretrained_run import made, planned, with_student

MOBILENET = {"student": "torchvision.models:mobilenet_v2", "student_settings": {}}
ITS_OWN = "torchvision:MobileNet_V2_Weights.IMAGENET1K_V2"


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("planning downloads nothing")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "torchvision:MobileNet_V2_Weights.IMAGENET1K_V9"}, "torchvision has no"),
        ({"weights": "torchvision:ResNet18_Weights.IMAGENET1K_V1"}, "do not fit"),
        ({"weights": "timm"}, "for a network of timm's"),
        ({"weights": ITS_OWN, "head": "clasifier"}, "Did you mean classifier"),
        ({"weights": "torchvision:FCN_ResNet50_Weights.DEFAULT"}, "no image classifier"),
        ({"head": "clasifier", "image_size": 32,
          "train": {"epochs": 1, "batch_size": 8, "head_lr_factor": 2.0}}, "Did you mean classif"),
        ({"weights": "timm", "student": "timm:ghostnet_050"}, "timm offers no weights"),
    ],
)  # fmt: skip
def test_weights_and_heads_that_cannot_be_are_refused(
    shapes: Path,
    tmp_path: Path,
    write_recipe: Callable[..., Path],
    change: dict[str, Any],
    said: str,
) -> None:
    recipe = with_student(shapes, **MOBILENET | {"image_size": None} | change)
    with pytest.raises(UserError, match=said):
        planned(write_recipe(recipe), tmp_path)


@pytest.mark.parametrize(
    ("student", "weights"),
    [("torchvision.models:mobilenet_v2", ITS_OWN), ("timm:mobilenetv3_small_050", "timm")],
)
def test_weights_that_fit_are_not(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path], student: str, weights: str
) -> None:
    own = {"student": student, "student_settings": {}, "image_size": 32}
    plan, _, _ = planned(write_recipe(with_student(shapes, weights=weights, **own)), tmp_path)
    assert not plan.impossible


def test_weights_that_a_builder_turns_into_its_own_fit(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    narrow = [x if isinstance(x, str) else max(8, round(x * 0.1)) for x in vgg.cfgs["D"]]
    plain = vgg.make_layers(narrow, batch_norm=False).state_dict()
    own = {"mean": [0.4] * 3, "std": [0.2] * 3, "size": 32}
    file = tmp_path / "plain.safetensors"
    save_tensors(file, {f"features.{name}": tensor for name, tensor in plain.items()}, own)
    settings = {"pool": 1, "classifier_width": 16, "width": 0.1}
    student = {"student": "teachers.vgg:vgg16_bn", "student_settings": settings}
    recipe = with_student(shapes, weights=str(file), head="classifier", **student)
    plan, _, _ = planned(write_recipe(recipe), tmp_path)
    assert not plan.impossible


def test_a_builder_that_fails_to_turn_weights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such layer")

    monkeypatch.setattr(teachers.vgg, "prepare_weights", fail)
    with pytest.raises(UserError, match=r"teachers.vgg:vgg16_bn, failed .*\(no such layer\)"):
        converted({}, torch.nn.Linear(1, 1), "teachers.vgg:vgg16_bn", lambda: torch.zeros(1))


@pytest.mark.parametrize(
    ("change", "said"), [({}, "do not fit"), ({"head": "vots"}, "Did you mean votes")]
)
def test_a_builder_that_converts_weights_refuses_those_of_others(
    dots: Path,
    tmp_path: Path,
    write_recipe: Callable[..., Path],
    change: dict[str, Any],
    said: str,
) -> None:
    file = tmp_path / "shufflenet.safetensors"
    own = {"mean": [0.4] * 3, "std": [0.2] * 3, "size": 32}
    save_tensors(file, shufflenet_v2_x0_5().state_dict(), own)
    student = {"student": "teachers.votes:mobilenet_v2", "student_settings": {}}
    recipe = with_student(dots / "points.csv", weights=str(file), **student, **change)
    recipe["data"]["points"] = POINTS
    with pytest.raises(UserError, match=said):
        planned(write_recipe(recipe), tmp_path)


def test_what_goes_on_may_name_the_head_that_learns_apart(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    recipe = with_student(shapes)
    first = recipe["candidates"]["shufflenet_v2_x0_5"][0]
    train = {"epochs": 1, "batch_size": 8, "head_lr_factor": 5.0}
    step = {"train": train, "control": False, "head": ["conv5", "fc"], "views": 1}
    recipe["candidates"] = {"again": [first, {"distill": step}]}
    network, _, _ = made(write_recipe(recipe), tmp_path, "again")
    assert network.provenance.training is not None
    step["train"] = {"epochs": 1, "batch_size": 8}
    with pytest.raises(UserError, match="none of them is here: remove it"):
        load_recipe(write_recipe(recipe))


def test_a_head_is_part_of_a_key_where_it_is_named() -> None:
    train = {"epochs": 2, "head_lr_factor": 5.0}
    assert "head" not in Settings.model_validate({"train": train}).in_key()
    assert Settings.model_validate({"train": train, "head": "fc"}).in_key()["head"] == "fc"
