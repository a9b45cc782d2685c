"""A real search, of a minute or two: tried, proven, written down, and the same when it goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from compress.analysis.budget import Budget
from compress.analysis.summary import summarise
from compress.cli import app
from compress.recipe.dump import recipe_text
from compress.recipe.load import load_recipe
from compress.report.write import write_report
from compress.results.file import read
from compress.search.run import Found, search_recipe
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from tests.conftest import class_folders, tiny_recipe

pytestmark = pytest.mark.slow
BUDGET = Budget(speedup=1.01, max_accuracy_drop=0.6)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    written: dict[str, Any] = tiny_recipe(class_folders(folder / "images", each=40))
    written["data"]["validation_fraction"] = 0.5
    (student,) = written["candidates"].values()
    train = student[0]["distill"]["train"] | {"epochs": 3}
    student[0]["distill"] |= {"train": train | {"lr": [1e-3, 2e-3]}, "control": False}
    again = {"train": {"epochs": 2, "batch_size": 8}}
    written["candidates"] = {
        "int8": [{"quantize": {}}],
        "small": student,
        "pruned": [{"prune": {"ratio": 0.3, "round_to": 1}}, {"distill": again}],
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return path


Run = Callable[..., Found]


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    out = tmp_path_factory.mktemp("out")

    def searched(
        within_s: float = 600, name: str = "tiny", budget: Budget = BUDGET, **given: Any
    ) -> Found:
        said = Console(quiet=True)
        return search_recipe(
            load_recipe(recipe, assignments=[f"name={name}"]),
            budget,
            within_s,
            out,
            lambda on_epoch: Progress(said, out / "run.log", on_epoch),
            print,
            "compress search tiny.yaml",
            **given,
        )

    return searched, out


@pytest.fixture(scope="module")
def found(run: tuple[Run, Path], recipe: Path) -> Found:
    return run[0](confirm_with=recipe.parent / "images")


def test_the_last_picks_are_judged_by_images_that_were_kept(found: Found) -> None:
    search = found.search
    assert {row.accuracy.images for row in found.rows} == {30}  # of 60 validation images
    assert all(row.data.endswith("kept") for row in found.rows)
    kept, theirs = search.proofs[0], search.proofs[-1]
    assert (kept.images, kept.searched_images) == (30, 30)
    row = next(x for x in found.rows if x.candidate == kept.candidate)
    assert kept.accuracy == row.accuracy.top1 and kept.drop == row.accuracy.top1_drop
    assert theirs.images == 120 and theirs.on == "the images of images"


def test_what_it_did_is_known(found: Found) -> None:
    search = found.search
    assert search.trials[0].candidate == "int8"  # without training, so first
    assert all(trial.why for trial in search.trials)
    assert 0 <= search.overhead_s < search.spent_s
    assert sum(trial.seconds for trial in search.trials) <= search.spent_s
    assert found.choice.picked is not None
    assert search.picks[-1].candidate == found.choice.picked.candidate


def test_it_goes_on_without_doing_anything_twice(
    found: Found, run: tuple[Run, Path], recipe: Path
) -> None:
    searched, out = run
    done = {path: path.stat().st_mtime_ns for path in out.glob("runs/stages/*/stage.json")}
    again = searched()
    assert again.search.trials[: len(found.search.trials)] == found.search.trials
    after = {path: path.stat().st_mtime_ns for path in out.glob("runs/stages/*/stage.json")}
    assert {path: after[path] for path in done} == done


def test_what_no_network_at_all_would_reach_is_refused(found: Found, run: tuple[Run, Path]) -> None:
    with pytest.raises(UserError, match="with no network at all the speedup is"):
        run[0](name="beyond", budget=Budget(speedup=1e6))


def test_the_pick_is_a_recipe_that_reuses_all_that_was_trained(
    found: Found, run: tuple[Run, Path]
) -> None:
    _, out = run
    assert found.pick is not None and found.choice.picked is not None
    folder = out / "reports" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pick.yaml").write_text(recipe_text(found.pick, folder, "The pick."))
    answer = CliRunner().invoke(
        app, ["run", str(folder / "pick.yaml"), "--out", str(out), "--dry-run"]
    )
    assert answer.exit_code == 0, answer.output
    to_do = [line for line in answer.output.splitlines() if line.startswith("to do")]
    # What a report of one recipe tells beside: single layers, and all timed together.
    assert all("layers" in line or "latency" in line or "torch" in line for line in to_do), to_do
    made = [row for row in found.rows if row.candidate == found.choice.picked.candidate]
    assert made and all((out / row.artifact.path).is_file() for row in made)


def test_the_report_shows_the_proof_and_the_time_line(found: Found, tmp_path: Path) -> None:
    write_report(summarise(found.rows, BUDGET), tmp_path, "tiny", search=found.search)
    text = (tmp_path / "report.md").read_text()
    assert "## The search" in text and "## Proof" in text and "## What was tried" in text
    page = (tmp_path / "report.html").read_text()
    assert 'id="timeline"' in page and "flattered by" in page
    assert (tmp_path / "search.svg").is_file()
    assert read(tmp_path).rows == found.rows
