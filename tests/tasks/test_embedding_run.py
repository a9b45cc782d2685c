"""Networks that end in a unit vector go the whole road, and galleries find images again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from compress.cli import app
from compress.export.artifact import spec_of
from compress.measure.evaluate import evaluate_file, predict_files
from compress.models.sessions import open_session
from compress.results.schema import Result
from compress.utils.errors import UserError
from tests.conftest import tiny_recipe
from tests.tasks.told_apart import NEW, squares
from tests.tasks.whole_run import run_in

pytestmark = pytest.mark.slow
LEARNS = {"epochs": 30, "batch_size": 8, "lr": 1e-3, "weight_decay": 0.0}
IDENTITIES = {"dimension": 16, "loss": {"name": "proxy_anchor"}}
WORDS = {"dimension": 16, "words": {"text": "text.txt", "negatives": 1}}


def recipe_of(data: Path, space: dict[str, Any]) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["data"] |= {"task": {"embedding": space}}
    recipe["teacher"] |= {"builder": "teachers.unit_vector:vgg16_bn", "train": LEARNS}
    recipe["teacher"]["settings"] |= {"dropout": 0.0, "width": 0.25}
    recipe["measure"] |= {"processes": 1}
    learn = {"views": 2, "control": False, "train": LEARNS | {"epochs": 2}}
    student = {"student": "students.unit_vector:shufflenet_v2_x0_5", "image_size": 32}
    if "words" in space:
        recipe["name"] = "words"
        still = {"shift": 0.0, "scale": 0.0, "rotation_degrees": 0.0}  # places are what counts
        recipe["teacher"]["train"] = LEARNS | {"epochs": 30, "lr": 1e-3, "augmentation": still}
        recipe["candidates"] = {"student": [{"distill": learn | student}]}
    else:
        recipe["name"] = "identities"
        relational = {"loss": {"name": "relational"}, "hard_weight": 0.5}
        recipe["candidates"] = {
            "student": [{"distill": learn | student | relational | {"control": True}}],
            "pruned_int8": [
                {"prune": {"ratio": 0.25, "round_to": 4, "images": 8}},
                {"distill": learn},
                {"quantize": {"images": 8, "judged": 16, "max_drop_vs_float": 0.9}},
            ],
        }
    recipe["budget"] = {"speedup": 0.01, "max_accuracy_drop": 1}
    return recipe


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares")


def run(out: Path, images: Path, space: dict[str, Any]) -> dict[str, Result]:
    """Return the rows in onnxruntime, by candidate."""
    rows = run_in(out, recipe_of(images, space))
    return {row.candidate: row for row in rows if row.artifact.runtime == "onnxruntime"}


@pytest.fixture(scope="module")
def identities(
    tmp_path_factory: pytest.TempPathFactory, images: Path
) -> tuple[Path, dict[str, Result]]:
    out = tmp_path_factory.mktemp("identities")
    return out, run(out, images, IDENTITIES)


def test_rows_and_files(identities: tuple[Path, dict[str, Result]], images: Path) -> None:
    out, rows = identities
    assert set(rows) == {"teacher", "student", "student (no teacher)", "pruned_int8"}
    for row in rows.values():
        told = row.accuracy
        assert (told.task, told.word, len(told.records)) == ("embedding", "recall@1", told.images)
        assert sum(not x for x in told.records) == 1  # the new one's image in the catalogue
        assert [x.name for x in told.further][:2] == ["recall@5 %", "mAP %"]
        file = out / row.artifact.path
        predicted = spec_of(file).predicted
        assert predicted is not None and len(predicted.fitted["images"]) == 48
        given = open_session(file, "onnxruntime", 1).run(np.zeros((3, 3, 32, 32), np.float32))
        (vector,) = given.values() if isinstance(given, dict) else given
        np.testing.assert_allclose(np.linalg.norm(vector, axis=1), 1, atol=2e-2)
    assert rows["teacher"].accuracy.top1.value > 0.5  # by chance 1 in 9
    assert "distil relational" in " ".join(rows["student"].lineage)
    training = rows["student"].training
    assert training is not None and training.unlabelled_images == 8
    assert "mAP %" in (out / "reports/identities/report.md").read_text("utf-8")
    whole = evaluate_file(out / rows["teacher"].artifact.path, images)
    assert whole.accuracy.top1.value == pytest.approx(rows["teacher"].accuracy.top1.value)


def test_galleries_by_command_and_in_the_exported_script(
    identities: tuple[Path, dict[str, Result]], images: Path, tmp_path: Path
) -> None:
    out, rows = identities
    runner, ready = CliRunner(), tmp_path / "ready"
    asked = ["--speedup", "0.01", "--confidence", "0.5", "--export", str(ready)]
    done = runner.invoke(app, ["choose", str(out / "reports/identities"), *asked])
    assert done.exit_code == 0 and "Chosen: " in done.stdout, done.stdout
    model, shown = str(ready / "model.onnx"), [str(x) for x in sorted(images.rglob("*.png"))[::20]]

    def both(*options: str) -> list[str]:
        told = runner.invoke(app, ["predict", model, *shown, *options])
        assert told.exit_code == 0, told.output
        script = subprocess.run(
            [sys.executable, ready / "predict.py", *shown],
            capture_output=True,
            text=True,
            check=False,
        )
        assert script.returncode == 0 and script.stderr == "", script.stderr
        ours, theirs = (x.splitlines() for x in (told.stdout, script.stdout))
        assert [x.split() for x in ours] == [x.split() for x in theirs]
        return ours

    own = both()
    assert any("imgs/" in line for line in own) and len(own) == 6 * len(shown)

    new = tmp_path / "new"  # whoever joins the catalogue, with one photograph
    (new / "somebody").mkdir(parents=True)
    shutil.copy(shown[0], new / "somebody/one.png")
    (new / "else").mkdir()
    shutil.copy(shown[1], new / "else/two.png")
    file = ready / "gallery.json"
    done = runner.invoke(app, ["gallery", model, str(new), "--out", str(file)])
    assert done.exit_code == 0, done.output
    told = both("--gallery", str(file))
    assert told[1].split() == ["1.000", "somebody", "somebody/one.png"]
    of_folder = runner.invoke(app, ["predict", model, *shown, "--gallery", str(new)])
    assert of_folder.stdout.splitlines() == told

    other = out / rows["student"].artifact.path
    if other.read_bytes() == Path(model).read_bytes():
        other = out / rows["teacher"].artifact.path
    with pytest.raises(UserError, match="was made by another model"):
        next(predict_files(other, [Path(shown[0])], gallery=file))
    stored = json.loads(file.read_text("utf-8")) | {"model": "another"}
    file.write_text(json.dumps(stored), encoding="utf-8")
    script = subprocess.run(
        [sys.executable, ready / "predict.py", shown[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 1 and "made by another model" in script.stderr
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="is no gallery: write one with compress gallery"):
        next(predict_files(other, [Path(shown[0])], gallery=tmp_path / "none.json"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="It holds nothing"):
        next(predict_files(other, [Path(shown[0])], gallery=tmp_path / "empty"))


def test_words_find_what_was_never_trained_on(images: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, images, WORDS)
    assert set(rows) == {"teacher", "student"}
    told = rows["teacher"].accuracy
    assert told.top1.value > 0.5
    assert [x.name for x in told.further][2:] == [
        "of known labels %",
        "zero-shot %",
        "zero-shot among new %",
    ]
    assert "distil cosine" in " ".join(rows["student"].lineage)
    model = tmp_path / rows["teacher"].artifact.path
    names = {near.label for x in predict_files(model, [*images.rglob("*.png")][:4]) for near in x}
    predicted = spec_of(model).predicted
    assert predicted is not None and predicted.fitted is None
    assert predicted.facts["new"] == list(NEW) and names <= {*predicted.facts["labels"], *NEW}
    whole = evaluate_file(model, images)
    assert whole.accuracy.top1.value == pytest.approx(told.top1.value)
