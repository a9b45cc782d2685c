"""Networks that give several labels an image go the whole road: trained, compressed, deployed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from compress.cli import app
from compress.data.dataset import Dataset
from compress.export.artifact import spec_of
from compress.measure.evaluate import evaluate_file, predict_files
from compress.results.schema import Result
from compress.tasks import task_of
from compress.tasks.multilabel.scores import f1
from compress.utils.errors import UserError
from tests.conftest import tiny_recipe
from tests.tasks.tagged import LABELS, tagged
from tests.tasks.whole_run import run_in

pytestmark = pytest.mark.slow
LEARNS = {"epochs": 20, "batch_size": 8, "lr": 2e-3, "weight_decay": 0.0}


def recipe_of(data: Path) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["name"] = "tags"
    recipe["data"]["task"] = {"multilabel": {"labels": list(LABELS)}}
    recipe["teacher"]["settings"] |= {"dropout": 0.0, "width": 0.25}
    recipe["teacher"]["train"] = LEARNS
    recipe["measure"] |= {"processes": 1}
    (student,) = recipe["candidates"]["shufflenet_v2_x0_5"]
    student["distill"] |= {"control": True, "hard_weight": 0.5, "train": LEARNS | {"mixup": 0.2}}
    recovery = {"views": 2, "control": False, "train": LEARNS | {"epochs": 1}}
    recipe["candidates"] = {
        "student": [student],
        "pruned_int8": [
            {"prune": {"ratio": 0.25, "round_to": 4, "images": 8}},
            {"distill": recovery},
            {"quantize": {"images": 8, "judged": 12, "max_drop_vs_float": 0.5}},
        ],
    }
    recipe["saliency"] = {"images": 4, "gallery": True, "methods": ["occlusion", "grad_cam"]}
    recipe["budget"] = {"speedup": 0.01, "max_accuracy_drop": 1}
    return recipe


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tagged(tmp_path_factory.mktemp("data") / "tagged", count=64)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path) -> tuple[Path, list[Result]]:
    out = tmp_path_factory.mktemp("out")
    return out, run_in(out, recipe_of(images))


def served(results: list[Result]) -> dict[str, Result]:
    return {row.candidate: row for row in results if row.artifact.runtime == "onnxruntime"}


def test_rows(finished: tuple[Path, list[Result]]) -> None:
    out, results = finished
    rows = served(results)
    assert set(rows) == {"teacher", "student", "student (no teacher)", "pruned_int8"}
    for row in rows.values():
        told = row.accuracy
        assert (told.task, told.word, len(told.records)) == ("multilabel", "mean F1", told.images)
        assert told.top1.value == pytest.approx(np.mean(told.records))
        (precision,) = told.further
        assert precision.value is not None and 0 < precision.value <= 100
        assert "mean over 3 labels" in precision.meaning and "without absent" in precision.meaning
        assert spec_of(out / row.artifact.path).outputs == {"logits": (4,)}
    teacher = rows["teacher"].accuracy
    assert teacher.top1.value > 0.8  # it learned
    assert rows["student"].accuracy.top1_drop is not None and rows["student"].gain_over_control
    assert "distil binary_kd" in " ".join(rows["student"].lineage)
    training = rows["student"].training
    assert training is not None and training.unlabelled_images >= 6
    assert [report.step for report in rows["pruned_int8"].steps] == ["prune", "quantize"]


def test_each_file_has_its_own_thresholds(finished: tuple[Path, list[Result]]) -> None:
    out, results = finished
    fitted = []
    for row in served(results).values():
        predicted = spec_of(out / row.artifact.path).predicted
        assert predicted is not None and predicted.facts["labels"] == list(LABELS)
        fitted.append(predicted.fitted["thresholds"])
        assert len(fitted[-1]) == 4 and fitted[-1][3] == 0  # of the last nothing can be learned
        names = {x.name for x in onnx.load(out / row.artifact.path).graph.output}
        assert names == {"logits"}
    assert len({tuple(x) for x in fitted}) == len(fitted)


def test_reports_say_what_networks_are_judged_by(finished: tuple[Path, list[Result]]) -> None:
    out, _ = finished
    report = (out / "reports/tags/report.md").read_text("utf-8")
    assert "| mean F1 % |" in report and "mean average precision %" in report
    assert "top-1" not in report and "top-5" not in report and "McNemar" not in report
    page = (out / "reports/tags/report.html").read_text("utf-8")
    assert "top-1" not in page.split("<script", 1)[0]
    assert "data:image/jpeg" in page  # where it looks


def test_eval_and_predict_agree_with_the_report(
    finished: tuple[Path, list[Result]], images: Path
) -> None:
    out, results = finished
    row = served(results)["teacher"]
    model = out / row.artifact.path
    data = Dataset.load(next((out / "runs/stages").glob("data-*/pictures.json")).parent, images)
    validation = data.indices("validation")
    found = list(predict_files(model, data.paths(validation)))
    said = np.array([[name in dict(x) for name in LABELS] for x in found])
    truth = task_of(spec_of(model)).targets(data)[validation]
    assert f1(said, truth).tolist() == pytest.approx(row.accuracy.records)
    whole = evaluate_file(model, images)
    assert whole.split == "all" and whole.note is None
    assert whole.accuracy.images == sum(image.is_labelled for image in data.images)
    assert whole.accuracy.top1.value > 0.8


def test_the_commands_and_the_exported_script(
    finished: tuple[Path, list[Result]], images: Path, tmp_path: Path
) -> None:
    out, _ = finished
    runner, ready = CliRunner(), tmp_path / "ready"
    report = str(out / "reports/tags")
    asked = ["choose", report, "--speedup", "0.01", "--confidence", "0.5", "--export", str(ready)]
    done = runner.invoke(app, asked)
    assert done.exit_code == 0 and "Chosen: " in done.stdout, done.stdout
    model, shown = str(ready / "model.onnx"), [str(x) for x in sorted(images.rglob("*.png"))[::5]]
    told = runner.invoke(app, ["predict", model, *shown]).stdout
    script = subprocess.run(
        [sys.executable, ready / "predict.py", *shown], capture_output=True, text=True, check=False
    )
    assert script.returncode == 0 and script.stderr == "", script.stderr

    def names(text: str) -> list[str]:
        return [line.split()[-1] for line in text.splitlines()]

    assert names(told) == names(script.stdout) and set(LABELS[:3]) <= set(names(told))
    card = (ready / "README.md").read_text("utf-8")
    assert (
        "| labels | bar (from " in card and "| labels that no training image has | absent |" in card
    )
    done = runner.invoke(app, ["eval", model, "--data", str(images), "--split", "all"])
    assert "mean F1" in done.stdout and "mean average precision %" in done.stdout
    done = runner.invoke(app, ["eval", model, "--data", str(images), "--json"])
    assert json.loads(done.stdout)["further"][0]["name"] == "mean average precision %"
    done = runner.invoke(app, ["predict", model, shown[0], "--draw", str(tmp_path / "drawn")])
    assert isinstance(done.exception, UserError) and "--draw is for" in str(done.exception)
