"""A method that another package brings goes all the way, with no file of ours touched."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compress.methods.base import Method
from compress.methods.prune.settings import Settings
from compress.results.file import read
from tests.conftest import tiny_recipe
from tests.installed import compress, installed

TOY = '''
from pydantic import Field
from typing import Annotated

from compress.methods.base import Method
from compress.utils.settings import RecipeModel


class Settings(RecipeModel):
    levels: Annotated[int, Field(ge=2)]


class Round(Method[Settings]):
    """Rounds every weight to so many levels."""

    name = "round"
    settings = Settings

    def controls(self, settings):
        return {"two levels": settings.model_copy(update={"levels": 2})}

    def decide(self, inputs, settings, context):
        from compress.methods.decided import Decided
        from compress.results.schema import Decision, StepReport

        kept = Decision(layer="all of them", change=f"{settings.levels} levels", kept=True)
        return Decided({"steps": settings.levels - 1}, StepReport(step="round", decisions=[kept]))

    def apply(self, inputs, settings, context):
        import torch

        from compress.models.candidate import Candidate

        before = Candidate.load(inputs.previous, context.allowed)
        steps = inputs.decided["steps"]
        with torch.no_grad():
            for weight in before.model.parameters():
                largest = weight.abs().max().clamp(min=1e-9)
                weight.copy_(torch.round(weight / largest * steps) / steps * largest)
        return before.after(f"round to {settings.levels} levels")
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as if `toy` were installed there."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "toy.py").write_text(TOY)
    return installed(folder, "toy", "[compress.methods]\nround = toy:Round\n")


def test_from_the_recipe_to_the_exported_script(
    package: Path, shapes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(shapes) | {"candidates": {"coarse": [{"round": {"levels": 200}}]}}
    recipe["teacher"]["train"] |= {"epochs": 1}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    recipe["budget"] = {"speedup": 0.01, "max_accuracy_drop": 1}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert "is right" in compress(package, "check", path)
    said = compress(package, "run", path, "--out", tmp_path)
    assert "coarse: round, decided: done" in said and "Chosen: " in said
    rows = {row.candidate: row for row in read(tmp_path / "reports/tiny").rows}
    assert set(rows) == {"teacher", "coarse", "coarse (two levels)"}
    control = rows["coarse (two levels)"]
    assert (control.control_of, control.control) == ("coarse", "two levels")
    assert rows["coarse"].lineage[-1] == "round to 200 levels"
    assert [report.decisions[0].change for report in rows["coarse"].steps] == ["200 levels"]
    assert "200 levels" in (tmp_path / "reports/tiny/report.md").read_text("utf-8")

    ready = tmp_path / "ready"
    words = ("--speedup", "0.01", "--export", ready)
    assert "coarse" in compress(package, "choose", tmp_path / "reports/tiny", *words)
    image = next(shapes.rglob("*.png"))
    artifact = tmp_path / rows["coarse"].artifact.path
    assert image.name in compress(package, "predict", artifact, image)
    script = [sys.executable, ready / "predict.py", image]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and image.name in done.stdout, done.stderr


def test_a_misspelt_hook_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"Odd\.decides_by_time is no hook .*decides_by_times\?"):

        class Odd(Method[Settings]):
            name = "odd"
            settings = Settings

            def decides_by_time(self, settings: Settings) -> bool:
                return True
