"""The teacher stage: what it takes from a checkpoint, and that it says what it chose."""

import io
from pathlib import Path

import torch
import yaml
from rich.console import Console
from torchvision.models import squeezenet1_1

from compress.measure.machine import machine
from compress.models.candidate import Candidate
from compress.recipe.load import load_recipe
from compress.utils.progress import Progress
from compress.workflow.plan import weights_path
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
        loaded, tmp_path, machine(), 1, Progress(Console(file=said)), (), weights_path(loaded)
    )
    images = data.plan(loaded.data, context.seed)
    stage = teacher.plan(loaded.teacher, context.fit, context.seed, images)
    (tmp_path / "data").mkdir()
    (tmp_path / "teacher").mkdir()
    data.run(images, {}, tmp_path / "data", context)
    teacher.run(stage, {"data": tmp_path / "data"}, tmp_path / "teacher", context)
    got = Candidate.load(tmp_path / "teacher", ()).model.state_dict()
    assert got.keys() == averaged.keys()
    assert all(torch.equal(got[k], averaged[k]) for k in averaged)
    shown = " ".join(said.getvalue().split())
    assert "those under 'state_dict_ema.module', the averaged ones" in shown
