"""Networks for grey images, blue first, and of other than square ones, from recipe to script."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from compress.api import run
from compress.cli import main
from compress.data.dataset import Dataset
from compress.export.bundle import write_bundle
from compress.models.builders import build
from compress.results.schema import Result
from tests.conftest import CLASSES, tiny_recipe

BUILDER, SETTINGS = "teachers.vgg:vgg16_bn", {"pool": 1, "classifier_width": 16, "width": 0.1}
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]  # of red, green and blue
INT8 = [{"quantize": {"images": 16}}]
HALF = [{"prune": {"ratio": 0.5, "importance": "magnitude"}}]
Compress = Callable[..., str]


@pytest.fixture
def compress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Compress:
    def call(*words: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["compress", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return call


def network(channels: int) -> nn.Module:
    """The teacher as its owner has it, with weights that give each image another answer."""
    torch.manual_seed(3)
    net = build(BUILDER, SETTINGS, len(CLASSES), (), (channels, 32, 32)).eval()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    return net


def own_answers(net: nn.Module, images: list[Path], mode: str, size: tuple[int, int]) -> np.ndarray:
    """Logits by the owner's own preparation: Pillow, NumPy and torch."""
    mean, std = ([0.5], [0.25]) if mode == "L" else (MEAN, STD)
    shown = []
    for path in images:
        image = Image.open(path).convert(mode).resize(size[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(image, np.float64).reshape(*size, -1) / 255
        shown.append(((values - mean) / std).transpose(2, 0, 1))
    with torch.no_grad():
        return net(torch.from_numpy(np.stack(shown)).float()).numpy()


def given_network(kind: str, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The owner's network, and what the recipe says of it."""
    net = network(1 if kind == "grey" else 3)
    tensors = {k: v.clone() for k, v in net.state_dict().items()}
    said: dict[str, Any] = {"mean": MEAN, "std": STD, "image_size": 32}
    if kind == "grey":
        said |= {"channels": "grey", "mean": [0.5], "std": [0.25]}
    if kind == "bgr":  # the same network, trained on images as OpenCV reads them
        first = next(k for k, v in tensors.items() if v.ndim == 4)
        tensors[first] = tensors[first].flip(1).contiguous()
        said |= {"channels": "bgr", "mean": MEAN[::-1], "std": STD[::-1]}
    if kind == "wide":
        said |= {"image_size": [32, 48]}
    save_file(tensors, folder / "w.safetensors")
    return net, said | {"builder": BUILDER, "settings": SETTINGS, "weights": "w.safetensors"}


def probabilities(said: str) -> list[tuple[str, float]]:
    """Class names and per cents as `predict` and the script print them."""
    return [(name, float(value)) for value, name in re.findall(r"([\d.]+) ?%  (\w+)", said)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "candidate"), [("grey", HALF), ("bgr", INT8), ("wide", INT8), ("wide", HALF)]
)
def test_from_the_recipe_to_the_exported_script(
    kind: str,
    candidate: list[Any],
    compress: Compress,
    write_recipe: Callable[..., Path],
    shapes: Path,
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe(shapes)
    net, recipe["teacher"] = given_network(kind, tmp_path)
    size = (32, 48) if kind == "wide" else (32, 32)
    recipe["data"]["fit"] = "stretch"
    [student] = recipe["candidates"]["shufflenet_v2_x0_5"]
    student["distill"] |= {"image_size": list(size), "control": False}
    student["distill"]["train"] |= {"epochs": 1}
    recipe["candidates"] = {"small": candidate, "student": [student]}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    path = write_recipe(recipe)
    rows: dict[str, Result] = {
        row.candidate: row
        for row in run(path, out=tmp_path)
        if row.artifact.runtime == "onnxruntime"
    }
    assert set(rows) == {"teacher", "small", "student"}
    assert {(r.artifact.input_height, r.artifact.input_width) for r in rows.values()} == {size}

    [folder] = (tmp_path / "runs/stages").glob("data-*")
    data = Dataset.load(folder, shapes)
    images = data.paths(data.indices("validation"))
    answers = own_answers(net, images, "L" if kind == "grey" else "RGB", size).argmax(1)
    judged = rows["teacher"].accuracy
    assert judged.answers == answers.tolist() and len(set(judged.answers)) > 1

    words = ("--max-accuracy-drop", "1", "--json", "--export", tmp_path / "chosen")
    picked = json.loads(compress("choose", tmp_path / "reports/tiny", *words))["candidate"]
    for name, row in rows.items():
        model, ready = tmp_path / row.artifact.path, tmp_path / name
        if name == picked:
            ready = tmp_path / "chosen"
        else:
            write_bundle(row, model, "It is looked at.", ready)
        told = probabilities(compress("predict", model, *images[:3]))
        script = [sys.executable, ready / "predict.py", *images[:3]]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert not done.stderr and len(told) == 3 * len(CLASSES)
        for (here, one), (there, other) in zip(told, probabilities(done.stdout), strict=True):
            assert here == there and one == pytest.approx(other, abs=0.11), name
