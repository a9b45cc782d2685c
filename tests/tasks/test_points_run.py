"""Networks that predict points go the whole road: trained, compressed, deployed, judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from compress.cli import app
from compress.export.artifact import spec_of
from compress.measure import evaluate
from compress.measure.evaluate import evaluate_file, predict_files
from compress.methods.context import Context
from compress.metrics.keypoints import KeypointTolerance
from compress.models.provenance import Provenance
from compress.models.weight_sources import fingerprint
from compress.recipe.load import load_recipe
from compress.results.schema import Result
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import run_stage
from compress.workflow.plan import Plan, make_plan
from compress.workflow.stages import accuracy
from tests.conftest import POINTS, tiny_recipe
from tests.result_factory import machine
from tests.tasks.whole_run import run_in

Write = Callable[..., Path]
LEARNS = {"epochs": 16, "batch_size": 6, "lr": 3e-3, "weight_decay": 0.0}


def recipe_of(data: Path) -> dict[str, Any]:
    recipe = tiny_recipe(data / "points.csv")
    recipe["name"] = "points"
    recipe["data"] |= {"points": POINTS, "fit": "stretch"}
    recipe["teacher"]["settings"] |= {"dropout": 0.0, "classifier_width": 32, "width": 0.25}
    recipe["teacher"]["train"] = LEARNS
    recipe["measure"] |= {"tolerance": 0.5, "processes": 1}
    recovery = {"views": 2, "control": False, "hard_weight": 0.5, "train": {"epochs": 1}}
    recipe["candidates"] = {
        "pruned_int8": [
            {"prune": {"ratio": 0.25, "round_to": 4, "images": 8}},
            {"factorize": {"layers": ["classifier.1"], "ratio": 0.5, "round_to": 4}},
            {"distill": recovery},
            {"quantize": {"images": 8, "judged": 16, "max_drop_vs_float": 0.5}},
        ],
    }
    return recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dots: Path) -> tuple[Path, list[Result]]:
    out = tmp_path_factory.mktemp("out")
    return out, run_in(out, recipe_of(dots))


def test_rows(finished: tuple[Path, list[Result]]) -> None:
    out, results = finished
    teacher, served, pruned = results
    for row in results:
        errors = row.accuracy.points
        assert row.accuracy.images == 10 and row.accuracy.word == "right answers"
        assert errors is not None and errors.tolerance == 0.5 and errors.mean_iou is None
        assert 0 <= errors.median_distance <= errors.p90_distance
        assert errors.median_angle_degrees is not None
        assert row.accuracy.top5 is None and row.accuracy.single_image_classes is None
        assert len(row.accuracy.correct) == 10
    assert teacher.accuracy.correct == served.accuracy.correct
    assert teacher.accuracy.points and teacher.accuracy.points.median_distance < 0.35  # it learned
    assert pruned.accuracy.top1_drop is not None and pruned.speedup is not None
    assert [report.step for report in pruned.steps] == ["prune", "factorize", "quantize"]
    assert "distil points" in " ".join(pruned.lineage)
    assert pruned.training is not None and pruned.training.unlabelled_images == 4
    assert "of right answers against float" in " ".join(pruned.steps[-1].notes)
    spec = spec_of(out / teacher.artifact.path)
    assert spec.points == ("red", "green") and spec.classes == () and spec.num_outputs == 4


def test_reports_say_what_right_means(finished: tuple[Path, list[Result]]) -> None:
    out, _ = finished
    report = (out / "reports/points/report.md").read_text("utf-8")
    assert "| right answers % |" in report and "every point is at most 0.5 off" in report
    assert "angle error, median °" in report
    assert "top-1" not in report and "top-5" not in report
    page = (out / "reports/points/report.html").read_text("utf-8")
    assert "top-1" not in page.split("<script", 1)[0] and "validation right answers %" in page
    header, *lines = (out / "reports/points/pareto.csv").read_text().splitlines()
    assert "median_angle_degrees" in header.split(",") and len(lines) == 3


def test_eval_and_predict_agree_with_the_report(
    finished: tuple[Path, list[Result]], dots: Path, tmp_path: Path
) -> None:
    out, results = finished
    model = out / results[0].artifact.path
    stored = json.loads(next((out / "runs/stages").glob("data-*/pictures.json")).read_text())
    rows = [row for row in stored["pictures"] if row[2] == "validation"]
    true = np.array([row[4] for row in rows])
    places = [dots / row[0] for row in rows]
    found = [list(x.values()) for x in predict_files(model, places) if isinstance(x, dict)]
    far = np.linalg.norm(np.array(found) - true, axis=2)
    length = np.linalg.norm(true[:, 0] - true[:, 1], axis=1)
    right = "".join("1" if x else "0" for x in (far <= 0.5 * length[:, None]).all(1))
    assert right == results[0].accuracy.correct

    whole = evaluate_file(model, dots / "points.csv", tolerance=KeypointTolerance(0.5))
    assert (whole.accuracy.images, whole.split) == (40, "all")
    with pytest.raises(UserError, match="numbers in no_x, no_y"):
        evaluate_file(model, dots / "box.csv", columns=["no_x", "no_y", "x", "y"])
    with pytest.raises(UserError, match="need 4 columns, such as red_x"):
        evaluate_file(model, dots / "box.csv", columns=["x", "y"])


def test_it_is_judged_in_the_runtime_that_is_asked(
    finished: tuple[Path, list[Result]], dots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="compress[openvino]")
    out, results = finished
    model, opened = out / results[0].artifact.path, []
    original = evaluate.open_session

    def noting(path: Path, runtime: str, *given: Any, **named: Any) -> Any:
        opened.append(runtime)
        return original(path, runtime, *given, **named)

    monkeypatch.setattr(evaluate, "open_session", noting)
    for runtime in (None, "openvino"):
        evaluate_file(model, dots / "points.csv", runtime=runtime)
    assert opened == ["onnxruntime", "openvino"]


def test_the_commands(finished: tuple[Path, list[Result]], dots: Path, tmp_path: Path) -> None:
    out, results = finished
    model, runner = str(out / results[0].artifact.path), CliRunner()
    done = runner.invoke(app, ["eval", model, "--data", str(dots / "points.csv")])
    assert "right answers" in done.stdout and "angle error: median" in done.stdout
    assert "every point is at most 0.1 off" in done.stdout
    columns = "red_x,red_y,green_x,green_y"
    wide = ["--tolerance", "5", "--columns", columns, "--json"]
    done = runner.invoke(app, ["eval", model, "--data", str(dots / "points.csv"), *wide])
    assert json.loads(done.stdout)["top1"]["value"] == 1.0

    image = dots / "imgs/00.png"
    done = runner.invoke(app, ["predict", model, str(image), "--draw", str(tmp_path / "drawn")])
    assert "red: " in done.stdout and "green: " in done.stdout
    [drawn] = (tmp_path / "drawn").iterdir()
    assert Image.open(drawn).size == (48, 32)
    assert (np.asarray(Image.open(drawn)) != np.asarray(Image.open(image))).any()
    (tmp_path / "no.jpg").write_text("no image")
    done = runner.invoke(app, ["predict", model, str(tmp_path / "no.jpg"), str(image)])
    assert isinstance(done.exception, UserError) and "1 of 2" in str(done.exception)


def test_check(finished: tuple[Path, list[Result]], write_recipe: Write, dots: Path) -> None:
    out, _ = finished
    done = CliRunner().invoke(app, ["check", str(out / "points.yaml")])
    assert "40 labelled images with red and green, 4 unlabelled" in done.stdout
    recipe = recipe_of(dots)
    recipe["data"]["points"] = POINTS | {"red": ["redx", "red_y"]}
    done = CliRunner().invoke(app, ["check", str(write_recipe(recipe))])
    assert "Did you mean red_x?" in str(done.exception)


def test_only_the_last_part_is_trained_on_moved_points(
    finished: tuple[Path, list[Result]], dots: Path
) -> None:
    out, _ = finished
    recipe = recipe_of(dots)
    weights = next((out / "runs/stages").glob("teacher-*/model.safetensors"))
    recipe["teacher"] |= {"weights": str(weights), "train_only": "classifier", "views": 2}
    recipe["teacher"]["train"] = {"epochs": 25, "batch_size": 6, "lr": 3e-3}
    path = out / "only.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    loaded = load_recipe(path)
    plan = make_plan(loaded, machine(), 1)
    stage = plan.entries[0].model
    store = Store(out / "runs/stages")
    run_stage(stage, store, Context(
        seed=1, device=torch.device("cpu"), threads=1, allowed=(),
        progress=_progress(stage), data_path=Path(str(loaded.data.path)), 
        files={fingerprint(weights): weights},
        tables=out, machine=machine(),
    ))  # fmt: skip
    training = Provenance.load(store.folder(stage)).training
    assert training is not None and training.epochs[-1].loss < 0.6 * training.epochs[0].loss


def _progress(stage: Stage) -> Progress:
    progress = Progress(Console(quiet=True))
    progress.titles[stage.key] = stage.title
    return progress


# Keys


def test_a_classifiers_stages_know_nothing_of_points(write_recipe: Write, shapes: Path) -> None:
    """Their keys are those from before there were points: what was trained is not trained again."""
    recipe = tiny_recipe(shapes)
    recipe["candidates"]["int8"] = [{"prune": {"ratio": 0.5}}, {"quantize": {}}]
    plan = make_plan(load_recipe(write_recipe(recipe)), machine(), 1)
    assert plan.data.settings.keys() == {
        "builder", "settings", "picture_column", "label_column", "validation_fraction", "seed",
        "fingerprint",
    }  # fmt: skip
    for stage in plan.stages:
        text = json.dumps(stage.settings)
        assert not any(word in text for word in ('"points"', '"box"', "bounds", "tolerance", "iou"))


def test_how_near_is_right_is_spelled_in_keys_as_it_always_was() -> None:
    judged = accuracy.plan(
        *("a", "onnxruntime", machine()),
        *(Stage("data", "", 1, {}), Stage("export", "", 1, {})),
        KeypointTolerance(0.2, 0.6),
    )
    assert judged.settings["bounds"] == {"tolerance": 0.2, "iou": 0.6}


def test_how_near_is_right_is_part_of_what_is_judged_only(write_recipe: Write, dots: Path) -> None:
    def plan_of(recipe: dict[str, Any]) -> Plan:
        text = yaml.safe_dump(recipe, sort_keys=False)
        return make_plan(load_recipe(write_recipe(text)), machine(), 1)

    recipe = recipe_of(dots)
    plans = []
    for tolerance in (0.5, 0.25):
        recipe["measure"]["tolerance"] = tolerance
        plans.append(plan_of(recipe))
    first, second = ({s.key: s.title for s in plan.stages} for plan in plans)
    changed = {title for key, title in first.items() if key not in second}
    assert {"pruned_int8: quantize", "teacher: accuracy in torch"} <= changed
    kinds = {s.kind for s in plans[0].stages if s.key in second}
    assert {"data", "teacher", "teacher_outputs", "step", "export"} <= kinds
    swapped = recipe_of(dots)
    swapped["data"]["points"] = dict(reversed(POINTS.items()))
    assert plan_of(swapped).data.key != plans[0].data.key  # a direction would turn round
