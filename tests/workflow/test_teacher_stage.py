"""The teacher stage: what it takes from a checkpoint, and that it says what it chose."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from torch import nn
from torchvision.models import squeezenet1_1

from compress.data.input_spec import InputSpec
from compress.measure.machine import machine
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.recipe.load import load_recipe
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.plan import files_of, plan_teacher
from compress.workflow.run import context_of
from compress.workflow.stages import data, teacher
from tests.conftest import CLASSES, tiny_recipe


def test_of_two_state_dicts_the_run_says_which_it_took(tmp_path: Path, shapes: Path) -> None:
    plain, averaged = (squeezenet1_1(num_classes=len(CLASSES)).state_dict() for _ in range(2))
    saved = {"state_dict": plain, "state_dict_ema": {f"module.{k}": averaged[k] for k in averaged}}
    torch.save(saved, tmp_path / "checkpoint.pth.tar")
    recipe = tiny_recipe(shapes)
    recipe["teacher"] = {
        "builder": "torchvision.models:squeezenet1_1",
        "weights": str(tmp_path / "checkpoint.pth.tar"),
        "image_size": 32,
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    loaded = load_recipe(tmp_path / "tiny.yaml")
    said = io.StringIO()
    context = context_of(
        loaded, tmp_path, machine(), 1, Progress(Console(file=said)), (), files_of(loaded)
    )
    images = data.plan(loaded.data, context.seed)
    stage = teacher.plan(loaded.teacher, loaded.data.image_fit, context.seed, images)
    (tmp_path / "data").mkdir()
    (tmp_path / "teacher").mkdir()
    data.run(images, {}, tmp_path / "data", context)
    teacher.run(stage, {"data": tmp_path / "data"}, tmp_path / "teacher", context)
    got = Candidate.load(tmp_path / "teacher", ()).model.state_dict()
    assert got.keys() == averaged.keys()
    assert all(torch.equal(got[k], averaged[k]) for k in averaged)
    shown = " ".join(said.getvalue().split())
    assert "those under 'state_dict_ema.module', the averaged ones" in shown


ENDS = """
from torch import nn
from torchvision import models

def ends_in(last, num_classes):
    head = nn.Linear(16, num_classes)
    layers = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), head, getattr(nn, last)())

def known(name, ends, num_classes):
    network = getattr(models, name)(num_classes=num_classes)
    return nn.Sequential(network, *(getattr(nn, x)() for x in ends))

class Sleepless(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(nn.functional.dropout(self.body(x).mean((2, 3))))
"""


@pytest.fixture
def stage_of(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a teacher of this file's networks by its stage, as a run does."""
    (tmp_path / "teachers_of_a_user.py").write_text(ENDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "teachers_of_a_user", raising=False)
    allowed = ("teachers_of_a_user",)

    def make(builder: str, **settings: Any) -> None:
        recipe = tiny_recipe(shapes)
        given = {"builder": f"teachers_of_a_user:{builder}"}
        recipe["teacher"] |= given | settings
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
        loaded = load_recipe(tmp_path / "tiny.yaml", allowed=allowed)
        quiet = Progress(Console(quiet=True))
        context = context_of(loaded, tmp_path, machine(), 1, quiet, allowed, files_of(loaded))
        stage = plan_teacher(loaded, allowed)
        for name, each in (("data", stage.inputs["data"]), ("teacher", stage)):
            (tmp_path / name).mkdir(exist_ok=True)
            each.run(each, {"data": tmp_path / "data"}, tmp_path / name, context)

    return make


@pytest.fixture
def trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(teacher, "train", refused)


@pytest.mark.parametrize("last", ["Sigmoid", "Softmax"])
@pytest.mark.usefixtures("trains_nothing")
def test_fresh_weights_that_give_probabilities_are_refused_before_training(
    last: str, stage_of: Callable[..., None]
) -> None:
    with pytest.raises(UserError, match=f"the probabilities of a {last.lower()}, and logits are"):
        stage_of("ends_in", settings={"last": last})


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
@pytest.mark.usefixtures("trains_nothing")
def test_fresh_weights_of_known_networks(name: str, stage_of: Callable[..., None]) -> None:
    """Their sigmoid is within 0.05 of a half, whatever image they are shown."""
    with pytest.raises(UserError, match="the probabilities of a sigmoid, and logits are expected"):
        stage_of("known", settings={"name": name, "ends": ["Sigmoid"]})
    for ends in ([], ["ReLU"], ["Tanh"]):
        with pytest.raises(AssertionError, match="it was trained"):
            stage_of("known", settings={"name": name, "ends": ends})


@pytest.mark.usefixtures("trains_nothing")
def test_a_last_part_that_is_trained_anew_and_gives_probabilities(
    stage_of: Callable[..., None], tmp_path: Path
) -> None:
    layers = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    state = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, len(CLASSES))).state_dict()
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(UserError, match="the probabilities of a sigmoid, and logits are expected"):
        stage_of("ends_in", settings={"last": "Sigmoid"}, weights="net.pt", train_only="5")


@pytest.mark.usefixtures("trains_nothing")
def test_dropout_that_never_sleeps_is_refused_before_training(
    stage_of: Callable[..., None],
) -> None:
    said = "Sleepless gives the same images other answers when it is asked twice .* behind 'body'"
    with pytest.raises(UserError, match=said):
        stage_of("Sleepless", settings={})


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Sigmoid(), nn.Identity()])
def test_a_network_that_gives_probabilities_is_refused(last: nn.Module) -> None:
    torch.manual_seed(0)
    spec = InputSpec(height=8, width=8, mean=(0,) * 3, std=(1,) * 3, classes=CLASSES)
    head = nn.Linear(3, len(CLASSES))
    nn.init.normal_(head.weight, std=30)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head, last)
    candidate = Candidate(model, "nets:net", {}, spec, Provenance(("net",)))
    images = np.random.default_rng(0).standard_normal((16, 3, 8, 8), dtype=np.float32)
    if isinstance(last, nn.Identity):
        teacher.refuse_probabilities(candidate, images)
        return
    said = f"the probabilities of a {type(last).__name__.lower()}, and logits are expected"
    with pytest.raises(UserError, match=said):
        teacher.refuse_probabilities(candidate, images)
