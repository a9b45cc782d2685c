"""The teacher stage: what it takes from a checkpoint, and that it says what it chose."""

import io
from pathlib import Path

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
from compress.workflow.plan import files_of
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
