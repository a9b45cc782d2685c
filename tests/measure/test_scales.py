"""Files that give probabilities where logits are expected, judged and asked outside of recipes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from compress.cli import app
from compress.data.input_spec import InputSpec, preprocess
from compress.measure.evaluate import Evaluation, evaluate_file, predict_files
from tests.conftest import CLASSES
from tests.onnx_graphs import SIGMOIDS, TAILS, Dims, classifier, logits, softmax

SPEC = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3, classes=CLASSES)


def judged(folder: Path, data: Path, tail: Any = (), shape: Dims = ("n", 3, 32, 32)) -> Evaluation:
    model = classifier(folder / "m.onnx", tail, shape)
    (folder / "spec.json").write_text(SPEC.model_dump_json())
    return evaluate_file(model, data, spec_file=folder / "spec.json")


@pytest.mark.parametrize("tail", TAILS)
def test_a_softmax_is_judged_as_its_logits_are(tail: str, shapes: Path, tmp_path: Path) -> None:
    expected = judged(tmp_path, shapes)
    assert expected.note is None
    got = judged(tmp_path, shapes, TAILS[tail])
    assert got.accuracy.top1 == expected.accuracy.top1
    assert got.accuracy.log_loss == pytest.approx(expected.accuracy.log_loss, rel=1e-4)
    calibration = expected.accuracy.calibration_error
    assert got.accuracy.calibration_error == pytest.approx(calibration, abs=1e-5)
    assert got.note == "its answers are the probabilities of a softmax: their logarithm is taken"


@pytest.mark.parametrize("tail", SIGMOIDS)
def test_a_sigmoid_is_judged_by_its_logits(tail: str, shapes: Path, tmp_path: Path) -> None:
    expected = judged(tmp_path, shapes).accuracy
    got = judged(tmp_path, shapes, SIGMOIDS[tail])
    assert got.accuracy.top1.value == pytest.approx(expected.top1.value, abs=0.05)
    assert got.note == "its answers are the probabilities of a sigmoid: their logit is taken"


@pytest.mark.parametrize("tail", ["softmax", "in pieces"])
@pytest.mark.parametrize("count", [1, 3])
def test_probabilities_are_told_as_they_are(
    tail: str, count: int, shapes: Path, tmp_path: Path
) -> None:
    images = sorted(shapes.rglob("*.*g"))[:count]
    model = classifier(tmp_path / "m.onnx", TAILS[tail])
    (tmp_path / "spec.json").write_text(SPEC.model_dump_json())
    said: list[str] = []
    found = predict_files(model, images, 1, tmp_path / "spec.json", said.append)
    expected = softmax(logits(preprocess(images, SPEC)))
    for answer, row in zip(found, expected, strict=True):
        assert dict(answer) == pytest.approx(
            dict(zip(CLASSES, row.tolist(), strict=True)), abs=1e-4
        )
    assert said == ["its answers are the probabilities of a softmax: their logarithm is taken"]


def test_both_commands_say_what_they_take_answers_for(shapes: Path, tmp_path: Path) -> None:
    model = classifier(tmp_path / "m.onnx", TAILS["then flatten"])
    spec = tmp_path / "spec.json"
    spec.write_text(SPEC.model_dump_json())
    image, broken = next(iter(sorted(shapes.rglob("*.*g")))), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for arguments in (
        ["eval", str(model), "--data", str(shapes), "--spec", str(spec), "--json"],
        ["predict", str(model), str(broken), str(image), "--spec", str(spec)],
    ):
        done = CliRunner().invoke(app, arguments)
        assert "the probabilities of a softmax: their logarithm is taken" in done.stderr
    done = CliRunner().invoke(app, ["eval", str(model), "--data", str(shapes), "--spec", str(spec)])
    assert done.stderr.count("softmax") == 1
    spec.write_text(json.dumps(SPEC.model_dump() | {"classes": ["a", "b"]}))
    assert (
        CliRunner().invoke(app, ["predict", str(model), str(image), "--spec", str(spec)]).exception
    )


def test_a_file_of_a_free_size_is_judged_at_the_specs(shapes: Path, tmp_path: Path) -> None:
    expected = judged(tmp_path, shapes).accuracy
    got = judged(tmp_path, shapes, shape=("n", 3, "height", "width")).accuracy
    assert got.log_loss == pytest.approx(expected.log_loss, rel=1e-5)
    assert np.array_equal(got.answers, expected.answers)
