"""Every student of one answer, found by looking into the package: builds and gives numbers."""

import importlib
import pkgutil

import pytest
import torch

import students
from compress.models.builders import build

NAMES = [
    f"students.{module.name}:{function}"
    for module in pkgutil.iter_modules(students.__path__)
    if module.name != "captioner"  # gives no logits of classes: tests/tasks/test_captioner.py
    for function in importlib.import_module(f"students.{module.name}").__all__
]


@pytest.mark.parametrize(
    "name", [*NAMES, "torchvision.models:squeezenet1_1", "timm:mobilenetv3_small_050"]
)
def test_forward(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    model = build(name, {}, 5, ()).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_all_families_are_there() -> None:
    assert len(NAMES) == 14
