"""Networks that caption go the whole road: from the table to the exported script."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from compress.cli import app
from compress.export.artifact import spec_of
from compress.measure.evaluate import evaluate_file, predict_files
from compress.results.schema import Result
from tests.conftest import tiny_recipe
from tests.tasks.captioned import SETTINGS, squares
from tests.tasks.whole_run import run_in

pytestmark = pytest.mark.slow
STILL = {"shift": 0.0, "scale": 0.0, "rotation_degrees": 0.0}  # places are what counts
LEARNS = {"batch_size": 8, "weight_decay": 0.0, "augmentation": STILL}
DECODER = ["decoder.*", "features.40"]  # and what it looks at
SMALL = {"steps": 8, "units": 32, "embedding": 16, "attention": 16, "dropout": 0.0}


def recipe_of(data: Path) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["name"] = "captions"
    recipe["data"] |= {"task": {"captioning": SETTINGS}}
    recipe["teacher"] |= {
        "builder": "teachers.captioner:vgg16_bn",
        "settings": SMALL | {"width": 0.2},
    }
    recipe["teacher"]["train"] = LEARNS | {"epochs": 15, "lr": 3e-3}
    recipe["measure"] |= {"processes": 1, "batches": []}
    short = LEARNS | {"epochs": 2, "lr": 3e-3}
    recipe["candidates"] = {
        "student": [
            {
                "distill": {
                    "student": "students.captioner:mobilenet_v2",
                    "student_settings": SMALL | {"width_mult": 0.25},
                    "image_size": 32,
                    "hard_weight": 0.3,
                    "views": 2,
                    "train": short,
                }
            }
        ],
        "pruned_int8": [
            {"prune": {"ratio": 0.25, "round_to": 4, "images": 8, "ignore": DECODER}},
            {"distill": {"views": 2, "control": False, "train": short}},
            {"quantize": {"images": 8, "judged": 16, "max_drop_vs_float": 0.9}},
        ],
    }
    recipe["saliency"] = {"images": 4, "gallery": True}
    recipe["budget"] = {"speedup": 0.01, "max_accuracy_drop": 1}
    return recipe


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, images: Path
) -> tuple[Path, dict[str, Result]]:
    """The output folder, and its rows in onnxruntime by candidate."""
    out = tmp_path_factory.mktemp("captions")
    rows = run_in(out, recipe_of(images))
    return out, {row.candidate: row for row in rows if row.artifact.runtime == "onnxruntime"}


def test_rows_and_files(finished: tuple[Path, dict[str, Result]], images: Path) -> None:
    out, rows = finished
    assert set(rows) == {"teacher", "student", "student (no teacher)", "pruned_int8"}
    for row in rows.values():
        told = row.accuracy
        assert (told.task, told.word, len(told.records)) == ("captioning", "facts right", 12)
        assert [x.name for x in told.further][:3] == ["word accuracy %", "BLEU-4 %", "CIDEr"]
        file = out / row.artifact.path
        assert [x.name for x in onnx.load(file).graph.output] == ["tokens", "attention"]
        assert spec_of(file).outputs == {"tokens": (8, 11), "attention": (8, 4)}
    assert rows["teacher"].accuracy.top1.value > 0.8  # it learned; by chance one half
    assert "distil word_kd" in " ".join(rows["student"].lineage)
    training = rows["student"].training
    assert training is not None and training.unlabelled_images == 4
    assert [report.step for report in rows["pruned_int8"].steps] == ["prune", "quantize"]
    report = (out / "reports/captions/report.md").read_text("utf-8")
    assert "| facts right % |" in report and "BLEU-4 %" in report and "times an even map" in report
    whole = evaluate_file(out / rows["teacher"].artifact.path, images)
    assert whole.split == "all" and whole.accuracy.images == 48


def test_the_report_shows_sentences_and_where_it_looked(
    finished: tuple[Path, dict[str, Result]],
) -> None:
    out, rows = finished
    page, text = (
        (out / "reports/captions" / name).read_text("utf-8")
        for name in ("report.html", "report.md")
    )
    assert "## Where they look" in text and "compress predict --draw" in text
    for row in rows.values():
        assert row.saliency is not None and not row.saliency.notes
        sheets = row.saliency.gallery["answer"]
        assert len(sheets) == 4 and all(sheet in page for sheet in sheets)


def test_sentences_by_command_and_by_the_exported_script(
    finished: tuple[Path, dict[str, Result]], images: Path, tmp_path: Path
) -> None:
    out, _ = finished
    runner, ready = CliRunner(), tmp_path / "ready"
    asked = ["--speedup", "0.01", "--confidence", "0.5", "--export", str(ready)]
    done = runner.invoke(app, ["choose", str(out / "reports/captions"), *asked])
    assert done.exit_code == 0 and "Chosen: " in done.stdout, done.stdout
    model, shown = ready / "model.onnx", sorted(images.rglob("*.png"))[::12]
    told = runner.invoke(app, ["predict", str(model), *map(str, shown)])
    assert told.exit_code == 0, told.output
    script = subprocess.run(
        [sys.executable, ready / "predict.py", *shown], capture_output=True, text=True, check=False
    )
    assert script.returncode == 0 and script.stderr == "", script.stderr
    ours, theirs = (x.splitlines() for x in (told.stdout, script.stdout))
    assert [x.split() for x in ours] == [x.split() for x in theirs]
    assert "| facts | colour, place |" in (ready / "README.md").read_text("utf-8")

    sentences = [x.text for x in predict_files(model, shown)]
    listed = runner.invoke(app, ["predict", str(model), *map(str, shown), "--json"])
    assert [x["answers"][0]["caption"] for x in json.loads(listed.stdout)] == sentences
    drawn = tmp_path / "drawn"
    done = runner.invoke(app, ["predict", str(model), str(shown[0]), "--draw", str(drawn)])
    assert done.exit_code == 0, done.output
    with Image.open(next(drawn.iterdir())) as sheet:
        tiles = len(sentences[0].split()) + 1
        assert sheet.size == (192 * min(4, tiles), (192 + 16) * -(-tiles // 4))
