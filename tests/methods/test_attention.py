"""Students that look where their teacher looks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from compress.data.input_spec import InputSpec
from compress.methods.context import Context
from compress.methods.distill.attention import attention, difference, watched
from compress.methods.distill.settings import Distillation
from compress.methods.distill.teacher_cache import CachedTeacher, compute, make_online
from compress.models.candidate import Candidate
from compress.recipe.load import load_recipe
from compress.training.batches import draw_bank
from compress.training.settings import Augmentation
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import run_stage
from compress.workflow.plan import make_plan
from tests.conftest import POINTS, tiny_recipe
from tests.result_factory import machine

SPEC = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3, points=("red", "green"))


def network(builder: str, **settings: Any) -> Candidate:
    return Candidate.create(builder, settings, SPEC, (builder,), 0, ())


@settings(max_examples=30)
@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_attention_is_the_formula_of_the_paper(channels, height, width, seed):
    features = np.random.default_rng(seed).normal(size=(2, channels, height, width))
    found = attention(torch.from_numpy(features), height, width).numpy()
    for map_, attended in zip(features, found, strict=True):
        squares = sum(channel**2 for channel in map_)
        np.testing.assert_allclose(attended, squares / np.sqrt((squares**2).sum()), rtol=1e-5)


def test_maps_of_other_sizes_and_channels_are_compared_by_place():
    features = torch.zeros(3, 2, 4, 4)
    features[0, :, :2, :2] = features[1, :, 2:, 2:] = features[2, :, :2, :2] = 7.0
    coarse = torch.zeros(3, 5, 2, 2)
    coarse[:, 1, 0, 0] = 0.1
    there = attention(coarse, 2, 2)
    here = attention(features, 2, 2)
    np.testing.assert_allclose(here.square().sum((1, 2)).numpy(), 1, rtol=1e-6)
    each = [float(difference(here[i : i + 1], there[i : i + 1])) for i in range(3)]
    assert each[0] == each[2] < 0.1 and 1.9 < each[1] <= 2
    assert float(difference(here, there)) == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize(
    ("builder", "layer", "size"),
    [
        ("teachers.votes:vgg16_bn", "votes", (2, 2)),
        ("teachers.vgg:vgg16_bn", "classifier.0.0", (3, 3)),  # the flattening of what was pooled
        ("torchvision.models:resnet18", "avgpool", (2, 2)),
    ],
)
def test_the_last_map_of_several_places_is_watched(builder, layer, size):
    spread = {"pool": 3, "classifier_width": 8} if "vgg:" in builder else {}
    spec = SPEC.at(64 if "resnet" in builder else 32)
    student = Candidate.create(builder, spread, spec, ("x",), 0, ())
    images = torch.randn(2, 3, student.spec.height, student.spec.width)
    caught = []
    hook = student.model.get_submodule(layer).register_forward_pre_hook(
        lambda _, inputs: caught.append(inputs[0])
    )
    with watched(student) as watch:
        caught.clear()
        student.model(images)
        assert watch.size == size
        torch.testing.assert_close(watch.attention(), attention(caught[0], *size))
        assert watch.attention((5, 4)).shape == (2, 5, 4)
    hook.remove()
    assert not any(m._forward_pre_hooks for m in student.model.modules())


class WithoutMaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 4)

    def forward(self, images):
        return self.linear(images.flatten(1))


def test_a_network_without_a_map_is_named():
    student = replace(network("teachers.votes:vgg16_bn"), model=WithoutMaps())
    with pytest.raises(UserError, match="vgg16_bn has no layer that sees a map"), watched(student):
        pass


def stages_of(
    loss: dict[str, Any], dots: Path, write_recipe: Any, tmp_path: Path
) -> tuple[Store, list[Stage]]:
    """Trains a student with that loss; gives the stages that made it, the student's last."""
    recipe = tiny_recipe(dots / "points.csv")
    recipe["data"] |= {"points": POINTS, "fit": "stretch"}
    recipe["teacher"] |= {"builder": "teachers.votes:vgg16_bn", "settings": {"width": 0.1}}
    recipe["teacher"]["train"] = {"epochs": 8, "batch_size": 6, "lr": 3e-3}
    recipe["candidates"] = {
        "student": [{"distill": {
            "student": "teachers.votes:vgg16_bn", "student_settings": {"width": 0.05},
            "image_size": 32, "control": False, "loss": loss, "views": 2,
            "train": {"epochs": 24, "batch_size": 6, "lr": 3e-3},
        }}]
    }  # fmt: skip
    plan = make_plan(load_recipe(write_recipe(recipe)), machine(), 1)
    wanted = [s for s in plan.stages if s.kind in ("data", "teacher", "teacher_outputs", "step")]
    store = Store(tmp_path / "stages")
    for stage in wanted:
        progress = Progress(Console(quiet=True))
        progress.titles[stage.key] = stage.title
        run_stage(stage, store, Context(
            seed=1, device=torch.device("cpu"), threads=1, allowed=(),
            progress=progress, data_path=dots / "points.csv", files={},
            tables=tmp_path, machine=machine(),
        ))  # fmt: skip
    return store, wanted


def test_a_student_learns_to_look_where_the_teacher_looks(
    dots: Path, write_recipe: Any, tmp_path: Path
) -> None:
    apart = {}
    for name in ("points", "points_and_attention"):
        loss = {"name": name} | ({"weight": 1.0} if "attention" in name else {})
        store, stages = stages_of(loss, dots, write_recipe, tmp_path)
        _, teacher, outputs, step = stages
        assert ("attention" in outputs.settings) == ("attention" in name)
        torch.manual_seed(0)
        images = torch.rand(20, 3, 32, 32)
        found = []
        for stage in (teacher, step):
            candidate = Candidate.load(store.folder(stage), ())
            with watched(candidate) as watch, torch.no_grad():
                candidate.model.eval()(images)
                found.append(watch.attention())
        apart[name] = float(difference(found[1], found[0]))
        cached = CachedTeacher.load(store.folder(outputs), candidate.spec)
        assert (cached.looks is not None) == ("attention" in name)
    assert apart["points_and_attention"] < 0.7 * apart["points"], apart


def test_what_is_cached_is_where_the_teacher_looks(dots: Path, tmp_path: Path) -> None:
    from compress.data.image_cache import Decoded
    from compress.data.keypoints import PointColumns
    from compress.data.layouts import read_folder
    from compress.data.split import draw_split
    from compress.training.batches import ImageFeed
    from compress.training.settings import TrainSettings

    columns = PointColumns.of(list(POINTS), [c for pair in POINTS.values() for c in pair])
    data = draw_split(read_folder(dots / "points.csv", points=columns), 0.25, 0)
    teacher = network("teachers.votes:vgg16_bn", width=0.1)
    augmentation = Augmentation()
    cpu = torch.device("cpu")

    def decoded(spec: InputSpec) -> np.ndarray:
        return Decoded(data, tmp_path)(spec)

    online = make_online(teacher, decoded, augmentation, cpu, "float32")
    bank = draw_bank(2, len(data.images), augmentation, seed=5)
    pool = data.indices("train", "unlabelled")
    compute(online, data, bank, pool, 512, tmp_path, Progress(Console(quiet=True)), True, 10)
    cached = CachedTeacher.load(tmp_path, SPEC)
    feed = ImageFeed(
        data, decoded, SPEC, TrainSettings(epochs=2, batch_size=8, augmentation=augmentation),
        pool, len(pool), 0, cpu, bank,
    )  # fmt: skip
    for epoch in range(2):
        for batch in feed.batches(epoch):
            with watched(teacher) as watch:
                online(batch)
                torch.testing.assert_close(
                    cached.attention(batch), watch.attention(), atol=1e-3, rtol=1e-3
                )
            torch.testing.assert_close(cached(batch), online(batch), atol=1e-3, rtol=1e-3)


def test_an_online_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="points_and_attention compares what is cached"):
        Distillation.model_validate({
            "loss": {"name": "points_and_attention"}, "teacher_outputs": "online",
            "train": {"epochs": 1},
        })  # fmt: skip
