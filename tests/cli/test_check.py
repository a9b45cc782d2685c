"""`compress check` tries the teacher on two empty images of the data's classes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from compress.cli import app
from tests.conftest import tiny_recipe

SOURCE = """
from torch import nn

class Several(nn.Module):
    def __init__(self, n_classes, names="features scores"):
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, n_classes)
        self.names = names.split()

    def forward(self, x):
        features = self.body(x).relu().mean((2, 3))
        scores = self.fc(features)
        return {n: features if n == "features" else scores for n in self.names}

class Fixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
"""


@pytest.fixture
def checked(
    tmp_path: Path, shapes: Path, write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Checks a recipe with a teacher of the user's package; returns exit code and what it says."""
    (tmp_path / "networks_of_a_user.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(name: str, **changes: object) -> tuple[int, str]:
        recipe = tiny_recipe(shapes)
        builder = name if ":" in name else f"networks_of_a_user:{name}"
        recipe["teacher"] |= {"builder": builder, "settings": {}} | changes
        recipe["candidates"] = {"int8": [{"quantize": {}}]}
        arguments = [str(write_recipe(recipe)), "--allow-builders", "networks_of_a_user"]
        done = CliRunner().invoke(app, ["check", *arguments])
        return done.exit_code, " ".join(f"{done.output} {done.exception}".split())

    return run


def test_it_says_which_of_several_outputs_is_taken(
    checked: Callable[..., tuple[int, str]],
) -> None:
    code, said = checked("Several")
    assert code == 0 and "is right" in said
    assert "teacher: scores is taken of its outputs (features, scores)" in said


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (
            "Several",
            {"settings": {"names": "a b features"}},
            "networks_of_a_user:Several: The model gives a and b, and each could be its logits",
        ),
        ("Fixed", {}, "gives (2, 5) for two images; expected (2, 3): it is to predict 3 classes"),
        ("Fixed", {"settings": {"width": 2}}, "cannot be built with (width=2)"),
        (
            "torchvision.models:alexnet",
            {"image_size": 32},
            "does not take images of 32 x 32: they are too small, it takes 63 x 63",
        ),
    ],
)
def test_a_teacher_that_cannot_be_is_refused(
    checked: Callable[..., tuple[int, str]], name: str, changes: dict[str, object], expected: str
) -> None:
    code, said = checked(name, **changes)
    assert code != 0 and expected in said and "is right" not in said


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ({"class_to_idx": {"dot": 0, "bar": 1, "cross": 2}}, "3 classes named"),
        ({"classes": 3}, "no classes named"),
        ({"class_to_idx": {"dot": 1, "bar": 2, "cross": 3}}, "does not number its names 0, 1, 2"),
        ({"classes": "dot,bar,ring"}, "1 only in the data (cross); 1 only in the weights (ring)"),
    ],
)
def test_the_order_of_classes_that_the_weights_name(
    checked: Callable[..., tuple[int, str]], noted: dict[str, object], expected: str, tmp_path: Path
) -> None:
    torch.save({"model": squeezenet1_1(num_classes=3).state_dict(), **noted}, tmp_path / "net.pt")
    builder = "torchvision.models:squeezenet1_1"
    code, said = checked(builder, weights=str(tmp_path / "net.pt"), train=None, image_size=32)
    assert expected in said
    assert code == 0 if "classes named" in expected else code != 0
