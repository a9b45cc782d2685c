"""Networks for grey images, blue first, of other than square ones, and files that take bytes, from
recipe to script."""

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
from torch.nn import functional

from compress.api import run
from compress.cli import main
from compress.data.dataset import Dataset
from compress.export.bundle import write_bundle
from compress.results.schema import Result
from compress.runtimes.onnxruntime import OnnxFile
from tests.conftest import CLASSES, tiny_recipe
from tests.input_networks import small

SMALL = "tests.input_networks:small"
MEAN, STD = [0.3, 0.4, 0.5], [0.2, 0.25, 0.3]  # of red, green and blue
INT8 = {"int8": [{"quantize": {"images": 16}}]}
HALF = {"pruned": [{"prune": {"ratio": 0.5, "importance": "magnitude"}}]}
STUDENTS = {
    "grey": {"student": "students.shufflenet:shufflenet_v2_x0_5"},  # made for RGB
    "bgr": {"student": SMALL, "student_settings": {"width": 8}},
    "wide": {"student": SMALL, "student_settings": {"width": 8}},
    "bytes": {"student": SMALL, "student_settings": {"width": 8}},
}
Compress = Callable[..., str]


@pytest.fixture
def compress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compress:
    def call(*words: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["compress", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return call


def prepared(images: list[Path], mode: str, size: tuple[int, int]) -> torch.Tensor:
    """What the network's owner feeds it, by Pillow, NumPy and torch."""
    mean, std = ([0.5], [0.25]) if mode == "L" else (MEAN, STD)
    shown = []
    for path in images:
        image = Image.open(path).convert(mode).resize(size[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(image, np.float64).reshape(*size, -1) / 255
        shown.append(((values - mean) / std).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(shown)).float()


def owners_network(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = small(len(CLASSES), images.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval()


class BytesIn(nn.Module):
    """What many deploy: bytes in, channels last, the preprocessing inside."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scaled = (images.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        return self.net(scaled.permute(0, 3, 1, 2))


def teacher_of(kind: str, net: nn.Module, folder: Path) -> dict[str, Any]:
    """What the recipe says of the owner's network, whose weights are written to the folder."""
    if kind == "bytes":
        fed = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
        torch.onnx.export(
            BytesIn(net).eval(), (fed,), folder / "bytes.onnx", dynamo=False, opset_version=17,
            input_names=["images"], dynamic_axes={"images": {0: "batch"}},
        )  # fmt: skip
        return {"onnx": "bytes.onnx", "image_size": 32}
    tensors = {k: v.clone() for k, v in net.state_dict().items()}
    said: dict[str, Any] = {"builder": SMALL, "weights": "w.safetensors", "image_size": 32}
    said |= {"mean": MEAN, "std": STD}
    if kind == "grey":
        said |= {"settings": {"channels": 1}, "mean": [0.5], "std": [0.25]}
    if kind == "bgr":  # the same network, had it been trained on images as OpenCV reads them
        tensors["0.weight"] = tensors["0.weight"].flip(1).contiguous()
        said |= {"channels": "bgr", "mean": MEAN[::-1], "std": STD[::-1]}
    if kind == "wide":
        said |= {"image_size": [32, 48]}
    save_file(tensors, folder / "w.safetensors")
    return said


def probabilities(said: str) -> list[tuple[str, float]]:
    """Class names and per cents as `predict` and the script print them."""
    return [(name, float(value)) for value, name in re.findall(r"([\d.]+)%?  (\w+)", said)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "smaller"),
    # Of a file nothing is pruned: that is refused, with the way out.
    [("grey", HALF | INT8), ("bgr", HALF | INT8), ("wide", HALF | INT8), ("bytes", INT8)],
)
def test_from_the_recipe_to_the_exported_script(
    kind: str,
    smaller: dict[str, Any],
    compress: Compress,
    write_recipe: Callable[..., Path],
    shapes: Path,
    tmp_path: Path,
) -> None:
    size, mode = (32, 48) if kind == "wide" else (32, 32), "L" if kind == "grey" else "RGB"
    labelled = sorted(shapes.glob("[bcd]*/*.png"))
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in labelled])
    net = owners_network(prepared(labelled, mode, size), labels)
    recipe = tiny_recipe(shapes) | {"teacher": teacher_of(kind, net, tmp_path)}
    recipe["data"]["fit"] = "stretch"
    [student] = recipe["candidates"]["shufflenet_v2_x0_5"]
    student["distill"] |= {"image_size": list(size), "control": False, **STUDENTS[kind]}
    student["distill"]["train"] |= {"epochs": 1}
    recipe["candidates"] = {**smaller, "student": [student]}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    results = run(write_recipe(recipe), out=tmp_path, allow_builders=["tests"])
    rows: dict[str, Result] = {
        row.candidate: row for row in results if row.artifact.runtime == "onnxruntime"
    }
    assert set(rows) == {"teacher", *smaller, "student"}
    assert {(r.artifact.input_height, r.artifact.input_width) for r in rows.values()} == {size}
    takes = {name: OnnxFile(tmp_path / r.artifact.path, 1).inputs[0] for name, r in rows.items()}
    if kind == "bytes":  # the int8 file can stand where the file stood
        assert {(e.dtype, e.shape[1:]) for k, e in takes.items() if k != "student"} == {
            ("uint8", (32, 32, 3))
        }
    assert (takes["student"].dtype, takes["student"].shape[2:]) == ("float32", size)

    [folder] = (tmp_path / "runs/stages").glob("data-*")
    data = Dataset.load(folder, shapes)
    images = data.paths(data.indices("validation"))
    with torch.no_grad():
        answers = net(prepared(images, mode, size)).argmax(1).tolist()
    assert rows["teacher"].accuracy.answers == answers and len(set(answers)) > 1

    words = ("--max-accuracy-drop", "1", "--json", "--export", tmp_path / "chosen")
    picked = json.loads(compress("choose", tmp_path / "reports/tiny", *words))["picked"]
    for name, row in rows.items():
        model, ready = tmp_path / row.artifact.path, tmp_path / name
        if name == picked["candidate"]:
            ready = tmp_path / "chosen"
        else:
            write_bundle(row, model, "It is looked at.", ready)
        told = probabilities(compress("predict", model, *images[:3]))
        script = [sys.executable, ready / "predict.py", *images[:3]]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert not done.stderr and len(told) == 3 * len(CLASSES)
        for (here, one), (there, other) in zip(told, probabilities(done.stdout), strict=True):
            assert here == there and one == pytest.approx(other, abs=0.11), name
