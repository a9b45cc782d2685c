"""A task that another package brings goes all the way, with no file of ours touched.

Its networks have two outputs; an image has any number of answers, none included; it is judged by a
number that is no mean over images; and a threshold is fitted to every deployed file.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from compress.models.sessions import open_session
from compress.results.file import read
from compress.results.schema import Result
from compress.tasks.base import Task
from tests.conftest import tiny_recipe
from tests.installed import compress, installed

TOY = '''
from typing import Annotated

import numpy as np
from pydantic import Field

from compress.data.layouts import read_folder
from compress.results.schema import Metric
from compress.tasks.base import Task
from compress.tasks.settings import TaskSettings

PRESENT = ([0], [1, 2], [])  # parts in an image of the first, second and third class


class Settings(TaskSettings):
    names: Annotated[list[str], Field(min_length=3, max_length=3)]


class Parts(Task[list[tuple[str, float]]]):
    """Which parts an image shows, and how large each is."""

    name = "parts"
    word = "micro F1"
    settings = Settings

    @classmethod
    def read(cls, source, settings):
        from dataclasses import replace

        data = read_folder(source.path)
        index = {name: i for i, name in enumerate(data.classes)}
        images = [
            replace(p, label=None, truth=None if p.label is None else PRESENT[index[p.label]])
            for p in data.images
        ]
        return replace(data, images=tuple(images))

    @classmethod
    def outputs(cls, data):
        return {"scores": (3,), "sizes": (3,)}

    @classmethod
    def facts(cls, data):
        return {"names": data.task_settings["names"]}

    def targets(self, data):
        found = np.full((len(data.images), 3), np.nan, np.float32)
        for row, image in zip(found, data.images):
            if image.truth is not None:
                row[:] = 0
                row[image.truth] = 1
        return found

    @property
    def _threshold(self):
        fitted = self.spec.predicted.fitted
        return 0.0 if fitted is None else fitted["threshold"]

    def judge(self, data, indices, tolerance=None):
        true = self.targets(data)[indices] == 1

        def records(outputs):
            said = outputs["scores"] > self._threshold
            found = [said & true, said & ~true, ~said & true]
            return np.stack([x.sum(1) for x in found], 1).tolist()

        return records

    @classmethod
    def statistic(cls, records, weights):
        hits, wrong, missed = (weights @ np.asarray(records, float)).T
        return np.divide(2 * hits, 2 * hits + wrong + missed, out=np.zeros(len(hits)),
                         where=hits > 0)

    @classmethod
    def further(cls, records):
        exact = np.mean([wrong == missed == 0 for _, wrong, missed in records])
        return [Metric(name="all parts %", value=100 * exact, meaning="images without a mistake")]

    def fit(self, ask, data):
        indices = data.indices("train")
        outputs, judge = ask(indices), None
        best = (-1.0, 0.0)
        for threshold in np.quantile(outputs["scores"], np.linspace(0.1, 0.9, 9)).tolist():
            told = self.spec.predicted.model_copy(update={"fitted": {"threshold": threshold}})
            task = Parts(self.spec.model_copy(update={"predicted": told}))
            records = task.judge(data, indices)(outputs)
            best = max(best, (float(self.statistic(records, np.ones((1, len(records))))[0]),
                              threshold))
        return {"threshold": best[1]}

    def label_loss(self, smoothing):
        import torch.nn.functional as F

        def loss(outputs, targets):
            known = targets.isfinite().all(1)
            right = F.binary_cross_entropy_with_logits(outputs["scores"][known], targets[known])
            return right + F.mse_loss(outputs["sizes"][known], targets[known])

        return loss

    def answers(self, outputs, images):
        for scores, sizes in zip(outputs["scores"], outputs["sizes"]):
            names = self.spec.predicted.facts["names"]
            yield [(names[i], float(sizes[i])) for i in np.flatnonzero(scores > self._threshold)]

    def lines(self, answer):
        return [f"{name} of size {size:.3f}" for name, size in answer] or ["nothing"]


def net(num_classes, width):
    from collections import OrderedDict

    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width),
                nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            )
            self.scores = nn.Linear(2 * width, num_classes)
            self.sizes = nn.Linear(2 * width, num_classes)

        def forward(self, x):
            found = self.features(x)
            return OrderedDict(sizes=self.sizes(found), scores=self.scores(found))

    return Net()
'''
SCRIPT = """
{% macro question() %}Which parts are in{% endmacro %}
{% macro constants() %}{% endmacro %}
{% macro functions() %}{% endmacro %}
{% macro changed() %}0{% endmacro %}
{% macro tell() %}
        print(path)
        given, told = run(prepare(path)), MODEL["predicted"]
        found = np.flatnonzero(given["scores"][0] > told["fitted"]["threshold"])
        for i in found:
            print(f"{told['facts']['names'][i]} of size {given['sizes'][0][i]:.3f}")
        if not len(found):
            print("nothing")
{% endmacro %}
"""
TRAIN = {"epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as if `partstask` were installed there."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "partstask").mkdir()
    (folder / "partstask/__init__.py").write_text(TOY)
    (folder / "partstask/script.py.j2").write_text(SCRIPT)
    return installed(folder, "partstask", "[compress.tasks]\nparts = partstask:Parts\n")


def recipe(shapes: Path) -> dict[str, object]:
    """A teacher and three candidates: a student, a pruned and an int8 network."""
    learn = {"views": 1, "control": False, "train": TRAIN}
    student = {"student": "partstask:net", "student_settings": {"width": 4}, "image_size": 32}
    told = tiny_recipe(shapes)
    told["data"]["task"] = {"parts": {"names": ["head", "fin", "tail"]}}
    told["teacher"] = {
        "builder": "partstask:net",
        "settings": {"width": 16},
        "image_size": 32,
        "train": TRAIN | {"epochs": 4},
    }
    told["candidates"] = {
        "student": [{"distill": learn | student | {"hard_weight": 0.5, "control": True}}],
        "pruned": [{"prune": {"ratio": 0.5, "round_to": 4}}, {"distill": learn}],
        "int8": [{"quantize": {"images": 8, "judged": 8, "max_drop_vs_float": 1.0}}],
    }
    told["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    told["budget"] = {"speedup": 0.01, "max_accuracy_drop": 1}
    return told


@pytest.fixture(scope="module")
def run(package: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("out")
    path = out / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe(shapes)))
    said = compress(package, "check", path, "--allow-builders", "partstask")
    assert "for parts" in said and "is right" in said
    said = compress(package, "run", path, "--out", out, "--allow-builders", "partstask")
    assert "micro F1" in said and "Chosen: " in said
    return out


def rows_of(run: Path) -> dict[str, Result]:
    rows = read(run / "reports/tiny").rows
    return {row.candidate: row for row in rows if row.artifact.runtime == "onnxruntime"}


def micro_f1(records: list[list[int]]) -> float:
    hits, wrong, missed = map(sum, zip(*records, strict=True))
    return 2 * hits / (2 * hits + wrong + missed) if hits else 0.0


def test_rows_are_judged_by_the_tasks_own_number(run: Path) -> None:
    rows = rows_of(run)
    assert set(rows) == {"teacher", "student", "student (no teacher)", "pruned", "int8"}
    for row in rows.values():
        told = row.accuracy
        assert (told.task, told.word, len(told.records)) == ("parts", "micro F1", told.images)
        assert told.top1.value == pytest.approx(micro_f1(told.records))
        assert told.top1.low <= told.top1.value <= told.top1.high
        (exact,) = told.further
        assert exact.value == 100 * np.mean([x[1:] == [0, 0] for x in told.records])
    teacher, student = rows["teacher"].accuracy, rows["student"].accuracy
    assert student.top1_drop is not None and student.drop_p_value is not None
    assert student.top1_drop.value == pytest.approx(teacher.top1.value - student.top1.value)
    assert rows["student"].gain_over_control is not None
    assert "all parts %" in (run / "reports/tiny/report.md").read_text("utf-8")


def test_both_outputs_are_in_the_file_by_name_with_what_was_fitted_to_it(run: Path) -> None:
    fitted = set()
    for row in rows_of(run).values():
        file = run / row.artifact.path
        assert {x.name for x in onnx.load(file).graph.output} == {"scores", "sizes"}
        session = open_session(file, "onnxruntime", 1)
        given = session.run(np.zeros((2, 3, 32, 32), np.float32))
        assert {name: x.shape for name, x in given.items()} == {"scores": (2, 3), "sizes": (2, 3)}
        assert session.spec is not None
        fitted.add(yaml.safe_load(session.spec)["predicted"]["fitted"]["threshold"])
    assert len(fitted) > 1  # each file has its own


def test_choose_predict_eval_and_the_exported_script(
    package: Path, run: Path, shapes: Path, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    words = ("--speedup", "0.01", "--confidence", "0.5", "--export", ready)
    assert "Chosen: " in compress(package, "choose", run / "reports/tiny", *words)
    images = sorted(shapes.rglob("*.png"))[::5]
    told = compress(package, "predict", ready / "model.onnx", *images)
    done = subprocess.run(
        [sys.executable, ready / "predict.py", *images], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    ours = [line.strip() for line in told.splitlines() if " of size " in line or "nothing" in line]
    theirs = [x for x in done.stdout.splitlines() if " of size " in x or "nothing" in x]
    assert ours == theirs and any(" of size " in line for line in ours)
    judged = compress(package, "eval", ready / "model.onnx", "--data", shapes, "--split", "all")
    assert "micro F1" in judged and "all parts %" in judged
    assert "--draw is for" in compress(
        package, "predict", ready / "model.onnx", images[0], "--draw", tmp_path / "drawn", rc=2
    )


def test_a_report_is_told_when_its_task_is_not_installed(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", "choose", run / "reports/tiny", "--speedup", "0.01"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "No task 'parts' is installed here" in done.stderr


def test_settings_of_other_tasks_are_refused_with_what_there_is(
    package: Path, shapes: Path, tmp_path: Path
) -> None:
    told = recipe(shapes)
    told["measure"] |= {"iou": 0.5}
    told["candidates"]["student"][0]["distill"] |= {"loss": {"name": "kd"}}
    told["teacher"]["train"] = TRAIN | {"mixup": 0.2}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(told))
    said = compress(package, "check", path, "--allow-builders", "partstask", rc=2)
    assert "measure.iou: is for a box" in said
    assert "kd is not for parts: remove it, or choose match" in said
    assert "mixup: mixes classes, and parts has none" in said


def test_a_misspelt_hook_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"Odd\.stastistic is no hook .*statistic\?"):

        class Odd(Task[str]):
            name, word = "odd", "score"

            @classmethod
            def stastistic(cls, records: list[float], weights: np.ndarray) -> np.ndarray:
                return weights.mean(1)
