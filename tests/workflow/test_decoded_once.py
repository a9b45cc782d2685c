"""A run decodes each image once for the check of the data, and once for every size of an input."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL.ImageFile import ImageFile
from rich.console import Console

from compress.measure.machine import machine
from compress.recipe.load import load_recipe
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import run_stage
from compress.workflow.plan import in_order, make_plan
from compress.workflow.run import context_of
from tests.conftest import tiny_recipe

MEASURING = ("latency", "layers", "decide")  # what is timed looks at no image of the data


def recipe(shapes: Path) -> dict[str, Any]:
    """A teacher of 32 pixels, a student of 24, and a teacher in int8."""
    tiny = tiny_recipe(shapes)
    (distill,) = tiny["candidates"].pop("shufflenet_v2_x0_5")
    once = {"epochs": 1, "batch_size": 8}
    tiny["teacher"]["train"] = once
    distill["distill"] |= {"image_size": 24, "train": once, "views": 1}
    tiny["candidates"] = {"small": [distill], "int8": [{"quantize": {"images": 8}}]}
    tiny["saliency"] = {"images": 2, "methods": ["grad_cam"]}
    return tiny


def test_stages_decode_an_image_once_for_each_size(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe(shapes)))
    loaded = load_recipe(path)
    plan = make_plan(loaded, machine(), 1)
    progress = Progress(Console(quiet=True))
    context = context_of(loaded, tmp_path, machine(), 1, progress, ())
    store = Store(tmp_path / "stages")

    decoded: Counter[str] = Counter()
    decode = ImageFile.load_prepare  # what is only opened, for its mode, is not decoded

    def counting(image: ImageFile) -> None:
        decoded[str(image.filename)] += 1
        decode(image)

    monkeypatch.setattr(ImageFile, "load_prepare", counting)
    done: list[Stage] = []
    with progress.tree({stage.key: stage.title for stage in plan.stages}):
        for stage in in_order(plan.stages):
            if stage.kind not in MEASURING and all(x in done for x in stage.inputs.values()):
                run_stage(stage, store, context)
                done.append(stage)
    kinds = {stage.kind for stage in done}
    assert kinds >= {
        "teacher",
        "teacher_outputs",
        "step",
        "prepare",
        "export",
        "accuracy",
        "saliency",
    }
    assert len(decoded) == 42 and set(decoded.values()) == {3}

    (data,) = (store.folder(stage) for stage in done if stage.kind == "data")
    assert {file.name for file in data.glob("pixels-*")} == {
        "pixels-v2-32-crop.npy", "pixels-v2-24-crop.npy",
    }  # fmt: skip
