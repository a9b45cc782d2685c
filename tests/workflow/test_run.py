"""The road end to end on a tiny network: what is made, re-used, refused, resumed."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from rich.console import Console
from safetensors.torch import load_file
from scipy import stats

import compress.workflow.stages.teacher_outputs
from compress.measure.evaluate import evaluate_file, predict_files
from compress.recipe.load import load_recipe
from compress.report.write import reports_in
from compress.results.file import read
from compress.results.schema import Result
from compress.training.loop import CHECKPOINT
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe
from tests.conftest import tiny_recipe

Write = Callable[..., Path]


class Events(Progress):
    """Remembers what was said of each stage."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.seen: list[tuple[str, str]] = []

    def stage(self, key: str, state: str, detail: str = "") -> None:
        self.seen.append((self.titles[key], state))
        super().stage(key, state, detail)


def run(path: Path, out: Path, **arguments: Any) -> tuple[list[Result], list[tuple[str, str]]]:
    events = Events()
    recipe = load_recipe(path, **arguments)
    results, failed = run_recipe(
        recipe, out, events, "compress run tiny.yaml", report=reports_in(out)
    )
    assert failed == []
    return results, events.seen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> tuple[Path, list[Result]]:
    out = tmp_path_factory.mktemp("out")
    path = out / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(shapes)))
    return out, run(path, out)[0]


def test_rows(finished: tuple[Path, list[Result]]) -> None:
    out, results = finished
    rows = {(r.candidate, r.artifact.runtime): r for r in results}
    assert list(rows) == [
        ("teacher", "onnxruntime"),
        ("teacher", "torch"),
        ("shufflenet_v2_x0_5", "onnxruntime"),
        ("shufflenet_v2_x0_5 (no teacher)", "onnxruntime"),
    ]
    teacher, served, student, control = results
    assert (control.role, control.control_of) == ("control", "shufflenet_v2_x0_5")
    assert [row.control for row in results] == [None, None, None, "no teacher"]
    assert student.training and control.training
    assert student.training.unlabelled_images == 6
    assert control.training.unlabelled_images == 0
    assert len(student.training.epochs) == len(control.training.epochs) == 3
    assert teacher.accuracy.correct == served.accuracy.correct
    assert teacher.accuracy.top1_drop is None and student.accuracy.top1_drop is not None
    for row in results:
        assert (out / row.artifact.path).is_file()
        assert (out / row.artifact.path).stat().st_size == row.artifact.size_bytes
        assert row.accuracy.images == 9
        assert [x.batch for x in row.latency] == [1, 2, 3]
        assert row.peak_memory_bytes and row.peak_memory_bytes > 10**7
        assert row.cold_start_s and row.cold_start_s > 0
        assert len(row.accuracy.answers) == sum(x.images for x in row.accuracy.slices) == 9
        assert any("Timed in 2 processes only" in x for x in row.latency[0].warnings)
    same = np.equal(teacher.accuracy.answers, student.accuracy.answers)
    assert student.accuracy.agreement == same.mean() and teacher.accuracy.agreement is None
    lost = stats.binomtest(
        sum(map(str.__lt__, teacher.accuracy.correct, student.accuracy.correct)),
        sum(map(str.__ne__, teacher.accuracy.correct, student.accuracy.correct)) or 1,
    )
    assert student.accuracy.drop_p_value == pytest.approx(lost.pvalue)
    assert student.speedup and student.speedup.runtime == "onnxruntime"
    assert student.speedup_as_served and student.speedup_as_served.runtime == "torch"
    assert teacher.speedup is None and teacher.speedup_as_served is not None
    assert read(out / "runs" / "tiny").rows == results == read(out / "reports" / "tiny").rows


def test_layers_of_every_deployed_row_are_timed(finished: tuple[Path, list[Result]]) -> None:
    out, (teacher, served, student, control) = finished
    assert not served.layers and not control.layers
    page = (out / "reports" / "tiny" / "report.html").read_text("utf-8")
    for row in (teacher, student):
        assert sum(layer.seconds for layer in row.layers) > 0
        # The kernels' work is counted apart from the file's.
        assert sum(layer.macs or 0 for layer in row.layers) == row.artifact.macs
        assert all(f">{layer.name}<" in page for layer in row.layers if layer.macs)
    assert [layer.operation for layer in teacher.layers].count("conv 3×3") == 13


def test_no_result_names_a_place_of_this_machine(finished: tuple[Path, list[Result]]) -> None:
    out, _ = finished
    for file in (out / "reports" / "tiny").iterdir():
        assert str(out).encode() not in file.read_bytes(), file


def test_a_second_run_does_nothing_twice(
    finished: tuple[Path, list[Result]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, results = finished
    again, seen = run(out / "tiny.yaml", out)
    assert {state for _, state in seen} == {"reused"}
    assert again == results
    assert len((out / "runs/tiny/results.jsonl").read_text().splitlines()) == 4


def test_a_second_student_runs_no_teacher(
    finished: tuple[Path, list[Result]],
    write_recipe: Write,
    shapes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, _ = finished
    recipe = tiny_recipe(shapes)
    distill = recipe["candidates"].pop("shufflenet_v2_x0_5")[0]["distill"]
    distill |= {"student": "students.mobilenet:mobilenet_v3_small", "control": False}
    recipe["candidates"]["mobilenet_v3_small"] = [{"distill": distill}]
    recipe["name"] = "second"

    def no_teacher(*_: Any, **__: Any) -> None:
        raise AssertionError("the teacher was run")

    monkeypatch.setattr(compress.workflow.stages.teacher_outputs, "make_online", no_teacher)
    _, seen = run(write_recipe(recipe), out)
    states = dict(seen)
    assert states["teacher outputs: 2 views of each image"] == "reused"
    assert states["teacher vgg16_bn: train 3 epochs"] == "reused"
    assert states["mobilenet_v3_small: distill"] == "done"


def test_moved_data_is_the_same_data(
    finished: tuple[Path, list[Result]], write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    import shutil

    out, _ = finished
    shutil.copytree(shapes, tmp_path / "moved")
    _, seen = run(write_recipe(tiny_recipe(tmp_path / "moved")), out)
    assert {state for _, state in seen} == {"reused"}
    (tmp_path / "moved" / "bar" / "00.png").unlink()
    recipe = load_recipe(write_recipe(tiny_recipe(tmp_path / "moved")))
    from compress.workflow.stages.data import plan

    assert plan(recipe.data, 1).key != plan(load_recipe(out / "tiny.yaml").data, 1).key


def test_back_at_an_earlier_variant_its_rows_count(
    finished: tuple[Path, list[Result]], write_recipe: Write, shapes: Path
) -> None:
    out, results = finished
    recipe = tiny_recipe(shapes)
    recipe["measure"]["rounds"] = 6
    other, _ = run(write_recipe(recipe), out)
    assert read(out / "runs" / "tiny").rows == other != results
    again, _ = run(out / "tiny.yaml", out)
    assert read(out / "runs" / "tiny").rows == again == results


def test_a_changed_builder_is_another_stage(
    write_recipe: Write, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.models.builders import identity

    (tmp_path / "mynets.py").write_text("def small(num_classes): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = identity("mynets:small", ["mynets"])
    (tmp_path / "mynets.py").write_text("def small(num_classes): return 3\n")
    assert identity("mynets:small", ["mynets"]) != before
    assert identity("torchvision.models:resnet18").startswith("torchvision 0.")


def test_what_a_builder_imports_of_its_package_is_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.models.builders import identity

    package = tmp_path / "theirnets" / "parts"
    package.mkdir(parents=True)
    (tmp_path / "theirnets" / "__init__.py").write_text("from .net import small\n")
    (tmp_path / "theirnets" / "net.py").write_text("from theirnets.parts import block\nsmall = 1\n")
    (package / "__init__.py").write_text("")
    (package / "block.py").write_text("from ..other import a\nimport json\n")
    (tmp_path / "theirnets" / "other.py").write_text("a = 1\n")
    (tmp_path / "theirnets" / "unused.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = identity("theirnets:small", ["theirnets"])
    (tmp_path / "theirnets" / "unused.py").write_text("changed = 1\n")
    assert identity("theirnets:small", ["theirnets"]) == before
    (tmp_path / "theirnets" / "other.py").write_text("a = 2\n")
    assert identity("theirnets:small", ["theirnets"]) != before
    alone = (Path(__file__).parents[2] / "teachers" / "vgg.py").read_bytes()
    assert identity("teachers.vgg:vgg16_bn") == hashlib.sha256(alone).hexdigest()


def test_a_second_process_says_so_and_stops(
    finished: tuple[Path, list[Result]],
) -> None:
    out, _ = finished
    with FileLock(out / "runs" / ".lock"), pytest.raises(UserError, match="Another run is working"):
        run(out / "tiny.yaml", out)


def test_eval_and_predict_agree_with_the_report(
    finished: tuple[Path, list[Result]], shapes: Path
) -> None:
    out, results = finished
    model = out / results[2].artifact.path
    data = json.loads(next((out / "runs/stages").glob("data-*/pictures.json")).read_text())
    rows = [row for row in data["pictures"] if row[2] == "validation"]
    table = [(shapes / path, label) for path, label, *_ in rows]
    right = "".join(
        "1" if names[0][0] == label else "0"
        for (_, label), names in zip(
            table, predict_files(model, [p for p, _ in table]), strict=True
        )
    )
    assert right == results[2].accuracy.correct
    evaluation = evaluate_file(model, shapes)  # no split of its own: all labelled
    assert (evaluation.accuracy.images, evaluation.split) == (36, "all")
    with pytest.raises(UserError, match="has no split"):
        evaluate_file(model, shapes, "train")
    for names in predict_files(model, [table[0][0]]):
        assert not isinstance(names, UserError)
        assert sum(p for _, p in names) == pytest.approx(1)


def test_a_file_with_a_fixed_batch(
    finished: tuple[Path, list[Result]], shapes: Path, tmp_path: Path
) -> None:
    import onnx

    from compress.export.artifact import spec_of

    out, results = finished
    model = out / results[2].artifact.path
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(proto, tmp_path / "fixed.onnx")
    free, fixed = evaluate_file(model, shapes), evaluate_file(tmp_path / "fixed.onnx", shapes)
    assert free.accuracy.correct == fixed.accuracy.correct
    spec = spec_of(model).model_copy(update={"classes": ("bar", "cross", "dot", "more")})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    with pytest.raises(UserError, match="names 4 classes"):
        list(predict_files(model, [shapes / "bar" / "00.png"], spec_file=tmp_path / "spec.json"))


def test_results_of_an_older_version_are_kept_and_do_not_block(
    finished: tuple[Path, list[Result]],
) -> None:
    out, results = finished
    file = out / "runs/tiny/results.jsonl"
    file.write_text('{"schema_version": 0}\n')
    assert run(out / "tiny.yaml", out)[0] == results
    assert read(file).rows == results
    assert file.with_suffix(".jsonl.old").read_text() == '{"schema_version": 0}\n'


def test_labels_that_the_model_does_not_know(
    finished: tuple[Path, list[Result]], tmp_path: Path, shapes: Path
) -> None:
    import shutil

    out, results = finished
    shutil.copytree(shapes, tmp_path / "other")
    (tmp_path / "other" / "dot").rename(tmp_path / "other" / "ring")
    with pytest.raises(UserError, match=r"1 classes that .* does not know \(ring\)"):
        evaluate_file(out / results[2].artifact.path, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"weights": "missing.safetensors"}, "no file at"),
        ({"weights": "pickle.pt"}, "is refused"),
        ({"weights": "damaged.safetensors"}, "damaged"),
        ({"weights": "shape.safetensors"}, "do not fit the model"),
        ({"weights": "labels.safetensors"}, "other classes than the data"),
        ({"settings": {"depth": 3}}, "cannot be built"),
        ({"weights": "ours.safetensors"}, "other classes than the data"),
        ({"settings": {"pool": 1}, "image_size": 16}, "does not take images of 16 x 16"),
        (
            {
                "builder": "torchvision.models.segmentation:lraspp_mobilenet_v3_large",
                "settings": {"weights_backbone": None},
            },
            r"gives \(2, 3, 32, 32\) for two images; .* is to predict 3 classes",
        ),
        ({"settings": {"num_classes": 3}}, "cannot be set"),
        ({"builder": "teachers.vgg:vgg16bn"}, "Did you mean vgg16_bn"),
        ({"builder": "teachers.vgg:cfgs"}, "has no function"),
    ],
)
def test_teachers_that_cannot_be(
    change: dict[str, Any], expected: str, write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    import torch

    from compress.models.checkpoint import save_tensors

    (tmp_path / "damaged.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    torch.save(UserError("code"), tmp_path / "pickle.pt")
    save_tensors(tmp_path / "shape.safetensors", {"features.0.weight": torch.ones(2, 3, 3, 3)}, {})
    save_tensors(tmp_path / "labels.safetensors", {}, {"classes": ["a", "b"]})
    spec = {"spec": {"classes": ["a", "b", "c"]}}
    save_tensors(tmp_path / "ours.safetensors", {}, spec)
    recipe = tiny_recipe(shapes)
    recipe["teacher"] |= change
    with pytest.raises(UserError, match=expected):
        run(write_recipe(recipe), tmp_path)


def test_only_the_last_part_is_trained(
    finished: tuple[Path, list[Result]], write_recipe: Write, shapes: Path
) -> None:
    out, _ = finished
    first = next((out / "runs/stages").glob("teacher-*/model.safetensors"))
    recipe = tiny_recipe(shapes)
    recipe["name"] = "only"
    recipe["teacher"] |= {"weights": str(first), "train_only": "classifier", "views": 2}
    run(write_recipe(recipe), out)
    second = next(
        p for p in (out / "runs/stages").glob("teacher-*/model.safetensors") if p != first
    )
    before, after = load_file(first), load_file(second)
    same = {name for name in before if bool((before[name] == after[name]).all())}
    assert {n for n in before if n.startswith("features")} <= same
    assert "classifier.1.weight" not in same and "classifier.5.weight" not in same
    with pytest.raises(UserError, match="Did you mean classifier"):
        recipe["teacher"]["train_only"] = "clasifier"
        run(write_recipe(recipe), out)


TRAIN = """
import sys
from pathlib import Path
from rich.console import Console
import compress.workflow.run
from compress.utils.progress import Progress
from compress.recipe.load import load_recipe
# The trained stages alone: exporting and timing take longer and train nothing.
from compress.workflow.executors import local
work = local.run_stage
def only_training(stage, store, context):
    if stage.kind in ("data", "teacher", "teacher_outputs", "prepare", "decide", "step"):
        work(stage, store, context)
local.run_stage = only_training
compress.workflow.run.doubts.load = lambda folder: []
compress.workflow.run.result_of = lambda *_: None
compress.workflow.run.with_comparisons = lambda results: sys.exit(0)
recipe = load_recipe(Path(sys.argv[1]))
print("started", flush=True)
compress.workflow.run.run_recipe(recipe, Path(sys.argv[2]), Progress(Console(quiet=True)), "")
"""


def start(path: Path, out: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(path), str(out)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def weights(out: Path) -> dict[str, bytes]:
    files = sorted(out.glob("runs/stages/*/*.safetensors"))
    return {str(f.relative_to(out)): f.read_bytes() for f in files}


def test_killed_at_random_points_it_ends_with_the_same_weights(
    write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(shapes)
    recipe["teacher"]["train"] |= {"epochs": 6, "mixup": 0.3}
    recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]["train"]["epochs"] = 6
    path = write_recipe(recipe)
    started = time.monotonic()
    assert start(path, tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - started

    process = start(path, tmp_path / "killed")
    while not list(tmp_path.glob(f"killed/runs/stages/*/{CHECKPOINT}")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()  # in the midst of a training
    assert process.wait() == -signal.SIGKILL

    rng = random.Random(0)
    for limit_s in (*(rng.uniform(0.05, 0.35) * seconds for _ in range(3)), None):
        process = start(path, tmp_path / "killed")
        try:
            process.wait(limit_s)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert len(whole) == 4  # teacher, its outputs, student, control
    stripped = {k: _tensors(v) for k, v in whole.items()}
    assert {k: _tensors(v) for k, v in killed.items()} == stripped


def _tensors(file: bytes) -> bytes:
    """A safetensors file without its metadata, which holds how long training took."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    return json.dumps(header, sort_keys=True).encode() + file[8 + length :]


def test_the_commands_on_a_finished_run(
    finished: tuple[Path, list[Result]],
    shapes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from typer.testing import CliRunner

    from compress.cli import app

    out, results = finished
    monkeypatch.chdir(out)
    runner = CliRunner()
    model = results[2].artifact.path

    done = runner.invoke(app, ["eval", model, "--data", str(shapes), "--json"])
    assert json.loads(done.stdout)["images"] == 36
    done = runner.invoke(app, ["eval", model, "--data", str(shapes)])
    assert "36 images" in done.stdout and "may have been trained on some" in done.stdout

    image = shapes / "bar" / "00.png"
    done = runner.invoke(app, ["predict", model, str(image)])
    assert len(done.stdout.splitlines()) == 4  # the image and its three classes
    (out / "no.jpg").write_text("no image")
    done = runner.invoke(app, ["predict", model, "no.jpg", str(image)])
    assert isinstance(done.exception, UserError) and "1 of 2 images" in str(done.exception)
    assert len(done.stdout.splitlines()) >= 5  # the good one was answered all the same

    done = runner.invoke(app, ["choose", "--speedup", "0.001", "--max-accuracy-drop", "1"])
    assert done.exit_code == 0 and ".onnx" in done.stdout
    done = runner.invoke(app, ["choose", "--speedup", "1e6", "--max-accuracy-drop", "0"])
    assert isinstance(done.exception, UserError) and done.exception.exit_code == 3

    done = runner.invoke(app, ["report", "runs/tiny", "--out", "joined"])
    assert done.exit_code == 0
    assert {"report.md", "report.html", "pareto.csv", "pareto.svg", "pareto.png"} <= {
        p.name for p in Path("joined").iterdir()
    }


def test_downloads_fail_with_what_to_do(
    write_recipe: Write, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    import torch.hub
    import torchvision

    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    recipe = tiny_recipe(shapes)
    recipe["teacher"]["weights"] = "torchvision:VGG16_Weights.IMAGENET1K_FEATURES"
    with pytest.raises(UserError, match="Download that file elsewhere"):
        run(write_recipe(recipe), tmp_path)
    recipe["teacher"]["weights"] = "torchvision:VGG16_Weights.NONE"
    with pytest.raises(UserError, match="torchvision has no"):
        run(write_recipe(recipe), tmp_path)


def test_a_checkpoint_says_what_made_it(finished: tuple[Path, list[Result]]) -> None:
    from compress.models.checkpoint import load_tensors

    out, results = finished
    teacher = next((out / "runs/stages").glob("teacher-*/model.safetensors"))
    made_by = load_tensors(teacher)[1]["made_by"]
    assert made_by["settings"]["train"]["epochs"] == 3
    assert made_by["inputs"] == {"data": f"data-{results[0].data}"}
