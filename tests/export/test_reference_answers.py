"""Deployed files say when a machine answers otherwise than the one they were judged on."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from compress.cli import app
from compress.data.input_spec import InputSpec
from compress.export.bundle import write_bundle
from compress.export.onnx import export_onnx
from compress.export.reference_answers import (
    STEPS,
    Reference,
    answers,
    difference_here,
    differences,
    reference_inputs,
    reference_of,
    write_reference,
)
from compress.measure.bench import bench
from compress.measure.machine import machine
from compress.models.sessions import open_session
from compress.runtimes import REFERENCE_KEY
from compress.tasks import task_of
from compress.tasks.base import Task
from compress.utils.errors import UserError
from tests.cascade_networks import PLAIN, centres
from tests.conftest import CLASSES
from tests.export.test_bundle import row, with_spec
from tests.export.test_export import SPEC, make

NAMED = SPEC.model_copy(update={"height": 24, "classes": (*CLASSES, "more", "than", "are", "here")})
SUMS = [248678, 246653, 241777, 259218, 230767, 217198, 233011, 224378]  # of the inputs' pixels
Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file that carries its answers."""
    path = tmp_path_factory.mktemp("judged") / "model.onnx"
    candidate = make("mobilenet_v3")
    export_onnx(candidate, path)
    with_spec(path, SPEC.model_copy(update={"classes": NAMED.classes}))
    write_reference(path, SPEC, machine())
    return path


def altered(source: Path, path: Path, change: Change) -> Path:
    """A copy whose stored answers are of another machine."""
    proto = onnx.load(source)
    (entry,) = [x for x in proto.metadata_props if x.key == REFERENCE_KEY]
    stored = json.loads(entry.value)
    for runtime, reference in stored.items():
        told = Reference.model_validate(reference)
        values = {name: change(packed.values()) for name, packed in told.outputs.items()}
        stored[runtime] = Reference.of(values, "AVX2, onnxruntime 1.0").model_dump()
    entry.value = json.dumps(stored)
    onnx.save(proto, path)
    return path


def shuffled(values: np.ndarray) -> np.ndarray:
    return np.roll(values, 1, axis=1)


def test_inputs_are_images_and_always_the_same() -> None:
    spec = InputSpec(height=20, width=31, mean=(0, 0, 0), std=(1 / 255,) * 3)
    made = reference_inputs(spec)
    assert made.shape == (8, 3, 20, 31) and made.dtype == np.float32
    assert (made.min(axis=(1, 2, 3)) == 0).all()
    np.testing.assert_allclose(made.max(axis=(1, 2, 3)), 255, rtol=1e-6)
    assert (made == reference_inputs(spec)).all()
    # A change would make every file seem to be judged elsewhere.
    assert np.rint(made).astype(int).sum(axis=(1, 2, 3)).tolist() == SUMS


def test_the_same_machine_answers_alike(judged: Path) -> None:
    before = judged.read_bytes()
    for runtime in ("onnxruntime", "openvino"):
        session = open_session(judged, runtime, 2)
        reference = reference_of(session, runtime)
        assert reference is not None
        now = answers(session, SPEC)["logits"]
        stored = reference.values(SPEC)["logits"]
        np.testing.assert_allclose(stored, now, atol=1e-3 * now.std())
        assert reference.judged_on.startswith(f"{machine().instruction_set}, {runtime} ")
        assert difference_here(session, runtime, machine()) is None
    write_reference(judged, SPEC, machine())  # again: replaced, and the same
    assert judged.read_bytes() == before


def test_files_without_answers_are_not_checked(judged: Path, tmp_path: Path) -> None:
    proto = onnx.load(judged)
    kept = {x.key: x.value for x in proto.metadata_props if x.key != REFERENCE_KEY}
    onnx.helper.set_model_props(proto, kept)
    onnx.save(proto, tmp_path / "older.onnx")
    session = open_session(tmp_path / "older.onnx", "onnxruntime", 1)
    assert session.reference is None and difference_here(session, "onnxruntime", machine()) is None
    # As it was written before outputs had names.
    session = open_session(judged, "onnxruntime", 1)
    reference = reference_of(session, "onnxruntime")
    assert reference is not None
    told = {"judged_on": reference.judged_on} | reference.outputs["logits"].model_dump()
    text = json.dumps({"onnxruntime": told})
    onnx.helper.set_model_props(proto, kept | {REFERENCE_KEY: text})
    onnx.save(proto, tmp_path / "unnamed.onnx")
    session = open_session(tmp_path / "unnamed.onnx", "onnxruntime", 1)
    assert reference_of(session, "onnxruntime") == reference
    onnx.helper.set_model_props(proto, kept | {REFERENCE_KEY: '{"onnxruntime": 3}'})
    onnx.save(proto, tmp_path / "damaged.onnx")
    with pytest.raises(UserError, match="damaged: export the model again"):
        difference_here(
            open_session(tmp_path / "damaged.onnx", "onnxruntime", 1), "onnxruntime", machine()
        )


CLASSES = task_of(SPEC)
POINTS = task_of(SPEC.model_copy(update={"classes": (), "points": ("a", "b")}))


def compared(stored: np.ndarray, now: np.ndarray, task: Task[Any]) -> str | None:
    """Compare the only output of two files."""
    (name,) = task.spec.outputs
    stored, now = {name: stored}, {name: now}
    return differences(stored, now, task.changed_answers(stored, now))


def test_what_counts_as_a_difference() -> None:
    stored = np.tile([0.0, 1.0, 10.0], (8, 1))
    assert compared(stored, stored + 0.9e-2 * stored.std(), CLASSES) is None
    off = compared(stored, stored + 2e-2 * stored.std(), CLASSES)
    assert off is not None and off.startswith("outputs differ by 2 % of")
    stored[:, 1] = 10 - 1e-3
    now = stored[:, [0, 2, 1]].copy()
    now[3:] = stored[3:]
    said = compared(stored, now, CLASSES)
    assert said is not None and said.startswith("3 of 8 reference inputs get another answer, ")
    assert compared(stored, now, POINTS) is None
    tied = np.tile([0.0, 5.0, 5.0], (8, 1))
    assert compared(tied, tied + np.array([0, 0, 1e-6]), CLASSES) is None
    assert compared(tied, tied + np.nan, POINTS) is not None
    step = 5.0 / STEPS  # as exactly as answers are kept: another best one may be rounding
    near = np.tile([0.0, 5.0, 5.0 - step / 2], (8, 1))
    assert CLASSES.changed_answers({"logits": near}, {"logits": near[:, [0, 2, 1]]}) == 8
    assert compared(near, near[:, [0, 2, 1]], CLASSES) is None
    far = np.tile([0.0, 5.0, 5.0 - 2 * step], (8, 1))
    assert compared(far, far[:, [0, 2, 1]], CLASSES) is not None


SAID = r"This machine \(.+\) answers otherwise than .+ judged on \(AVX2, onnxruntime 1\.0\): "
FIX = "int8 made with portable: true"


def test_eval_says_so(judged: Path, shapes: Path, tmp_path: Path) -> None:
    other = altered(judged, tmp_path / "other.onnx", shuffled)
    for model, differs in ((judged, False), (other, True)):
        done = CliRunner().invoke(app, ["eval", str(model), "--data", str(shapes), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["images"] == 36
        assert bool(re.search(SAID + r"8 of 8 reference inputs", done.stderr)) == differs
        assert (FIX in done.stderr) == differs


def test_bench_says_so(judged: Path, tmp_path: Path) -> None:
    other = altered(judged, tmp_path / "other.onnx", lambda x: x + 0.05 * x.std())
    rows = bench([judged, other], ["onnxruntime", "openvino"], [1], 1, processes=2, rounds=5)
    assert [x.differs is None for x in rows] == [True, True, False, False]
    options = [
        "--processes",
        "2",
        "--rounds",
        "5",
        "--threads",
        "1",
        "--batch",
        "1",
        "--batch",
        "2",
    ]
    done = CliRunner().invoke(app, ["bench", str(other), *options])
    assert done.exit_code == 0, done.output
    assert len(re.findall(SAID + "outputs differ by 5 %", done.stderr)) == 1


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_exported_script_says_so(judged: Path, tmp_path: Path, runtime: str) -> None:
    other = altered(judged, tmp_path / "other.onnx", shuffled)
    for model, differs in ((judged, False), (other, True)):
        folder = tmp_path / model.stem
        write_bundle(row(model, runtime), model, "", folder)
        done = subprocess.run(
            [sys.executable, folder / "predict.py"], capture_output=True, text=True, check=True
        )
        assert done.stdout == ""
        if not differs:
            assert done.stderr == ""
        else:
            assert "(AVX2, onnxruntime 1.0): 8 of 8 reference inputs" in done.stderr
            assert FIX in done.stderr
    made = list(runpy.run_path(str(folder / "predict.py"))["reference_inputs"]())
    np.testing.assert_array_equal(np.concatenate(made), reference_inputs(SPEC))


def test_points_have_no_top1(tmp_path: Path) -> None:
    model = tmp_path / "points.onnx"
    centres(model, 32, {"red": (1, -0.2, -0.2), "blue": (-0.2, -0.2, 1)})
    spec = InputSpec(height=32, width=32, points=("red", "blue"), **PLAIN)
    with_spec(model, spec)
    write_reference(model, spec, machine())
    shutil.copyfile(model, tmp_path / "copy.onnx")
    assert difference_here(open_session(model, "onnxruntime", 1), "onnxruntime", machine()) is None
    other = altered(model, tmp_path / "other.onnx", lambda x: x + 0.1 * x.std())
    session: Any = open_session(other, "onnxruntime", 1)
    said = difference_here(session, "onnxruntime", machine())
    assert said is not None and "top-1" not in said and "differ by 10 %" in said
    write_bundle(row(other), other, "", tmp_path / "ready")
    done = subprocess.run(
        [sys.executable, tmp_path / "ready/predict.py"], capture_output=True, text=True, check=True
    )
    assert "top-1" not in done.stderr and "differ by 10 %" in done.stderr
