"""What a recipe's validation images can show of its budget, said before anything is trained."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from compress.cli import app
from compress.measure.machine import machine
from compress.recipe.load import load_recipe
from compress.utils.progress import Progress
from compress.workflow import run as of_run
from compress.workflow.cache import Store
from compress.workflow.executors.local import run_stage
from compress.workflow.plan import make_plan
from compress.workflow.too_few_images import too_few_images
from tests.conftest import tiny_recipe

Write = Callable[[dict[str, Any]], Path]
FEW = (
    "9 validation images show a drop of at most 2 points with 95 % probability only if a candidate "
    "as accurate as the teacher disagrees with it on at most 0.13 % of them; where it does on 5 %, "
    "about 339 images would do."
)


@pytest.fixture
def asking(shapes: Path, write_recipe: Write) -> Callable[..., Path]:
    """Writes a recipe that allows a drop, with further sections."""

    def write(max_drop: float | None, **sections: Any) -> Path:
        recipe = tiny_recipe(shapes)
        recipe["budget"] = {"speedup": 1, "max_accuracy_drop": max_drop}
        if max_drop is None:
            del recipe["budget"]
        return write_recipe(recipe | sections)

    return write


def test_what_390_images_show(asking: Callable[..., Path]) -> None:
    said = too_few_images(load_recipe(asking(0.01)), 390)
    assert said is not None
    assert "390 validation images show a drop of at most 1 point with 95 % probability" in said
    assert "on at most 1.4 % of them" in said and "about 1,360 images would do" in said


@pytest.mark.parametrize(("max_drop", "images"), [(0.01, 1353), (0.05, 390), (0, 390), (None, 9)])
def test_nothing_is_said(asking: Callable[..., Path], max_drop: float | None, images: int) -> None:
    assert too_few_images(load_recipe(asking(max_drop)), images) is None


def test_nothing_is_said_of_scores(asking: Callable[..., Path], shapes: Path) -> None:
    data = {"path": str(shapes), "task": {"multilabel": {}}}
    assert too_few_images(load_recipe(asking(0.01, data=data)), 9) is None


def test_check_says_it(asking: Callable[..., Path]) -> None:
    few = CliRunner().invoke(app, ["check", str(asking(0.02))])
    assert few.exit_code == 0 and FEW in few.output
    enough = CliRunner().invoke(app, ["check", str(asking(0.2))])
    assert enough.exit_code == 0 and "validation images show" not in enough.output


def test_a_run_says_it_when_it_has_read_the_data(
    asking: Callable[..., Path], tmp_path: Path
) -> None:
    """And each time: also where the data was read before."""
    recipe = load_recipe(asking(0.02))
    plan, store = make_plan(recipe, machine(), 1), Store(tmp_path / "stages")
    for _ in range(2):
        said = io.StringIO()
        progress = Progress(Console(file=said, width=1000))
        context = of_run.context_of(recipe, tmp_path, machine(), 1, progress, ())
        with progress.tree({plan.data.key: plan.data.title}):
            run_stage(plan.data, store, context)
            found = [*of_run._said_of(plan.data, recipe, store, context)]
        assert found == [FEW]
