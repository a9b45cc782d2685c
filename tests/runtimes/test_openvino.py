"""OpenVINO beside onnxruntime: the same answers, its own files, its own rows."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
import torch.nn.functional as F
import yaml
from openvino import opset1
from rich.console import Console
from typer.testing import CliRunner

import compress.workflow.run
import compress.workflow.stages.latency
from compress.analysis.summary import summarise
from compress.cli import app
from compress.data.input_spec import InputSpec
from compress.export.artifact import Artifact, files_of, sha256_of, size_of, spec_of
from compress.export.int8 import quantize_file, ranges_of
from compress.export.onnx import export_onnx
from compress.export.reference_answers import difference_here, reference_of
from compress.measure.evaluate import evaluate_file, predict_files
from compress.measure.latency import speedup
from compress.measure.machine import machine
from compress.measure.memory import FirstRun, first_run
from compress.methods.quantize import layer_search
from compress.methods.quantize.step import Quantize
from compress.metrics.accuracy import paired_drop
from compress.models.sessions import open_session
from compress.profile.audit import BF16_FLAGS
from compress.recipe.load import load_recipe
from compress.report.charts import svg
from compress.report.content import content
from compress.report.front_chart import pareto_chart
from compress.report.write import reports_in
from compress.results.schema import Result, StepReport
from compress.runtimes.onnxruntime import OnnxSession
from compress.runtimes.openvino import OpenVinoSession
from compress.runtimes.openvino_ir import read_ir, save_ir
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.plan import Plan, make_plan
from compress.workflow.run import run_recipe
from compress.workflow.stages import export
from tests.conftest import tiny_recipe
from tests.export.test_export import SPEC, images, make
from tests.outputs import only
from tests.result_factory import result

Write = Callable[..., Path]


# Sessions


@pytest.fixture(scope="module", params=["vgg", "mobilenet_v3"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network's float32 and int8 files."""
    folder = tmp_path_factory.mktemp(request.param)
    export_onnx(make(request.param), folder / "float.onnx")
    ranges = ranges_of(folder / "float.onnx", images(8), "minmax")
    quantize_file(folder / "float.onnx", folder / "int8.onnx", ranges)
    return [folder / "float.onnx", folder / "int8.onnx"]


def difference(path: Path, precision: Any, count: int) -> float:
    """Of OpenVINO's outputs from onnxruntime's: the root of the mean square, as a fraction of the
    outputs' standard deviation."""
    expected = only(OnnxSession(path, 1).run(images(count)))
    got = only(OpenVinoSession(path, 1, precision).run(images(count)))
    assert got.shape == expected.shape and got.dtype == np.float32
    return float(np.sqrt(((got - expected) ** 2).mean()) / expected.std())


def test_it_gives_what_onnxruntime_gives(files: list[Path]) -> None:
    float32, int8 = files
    assert difference(float32, "f32", 4) < 1e-4
    # Int8 sums are exact in both; what lies between the layers is rounded at other places.
    assert difference(int8, "f32", 4) < 0.1


def test_bfloat16_gives_nearly_the_same(files: list[Path]) -> None:
    float32, _ = files
    if not set(BF16_FLAGS) & set(machine().cpu_flags):
        pytest.skip(f"this CPU has no bfloat16 instructions ({', '.join(BF16_FLAGS)})")
    # A fresh network on noise: a trained one on images loses less.
    assert 1e-3 < difference(float32, "bf16", 4) < 0.3


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "model.onnx"
    export_onnx(make("vgg"), path)
    return path


def test_batches_of_several_sizes(vgg: Path) -> None:
    session = OpenVinoSession(vgg, 1, "f32")
    assert (session.image_size, session.batch_size) == ((32, 32), None)
    expected = only(OnnxSession(vgg, 1).run(images(5)))
    for count in (5, 1, 3, 5, 1):
        got = only(session.run(images(5)[:count]))
        np.testing.assert_allclose(got, expected[:count], rtol=1e-3, atol=1e-4)
    assert sorted(shape[0] for (shape,) in session._requests) == [1, 3, 5]


def test_answers_are_not_overwritten_by_the_next(vgg: Path) -> None:
    session = OpenVinoSession(vgg, 1, "f32")
    first = only(session.run(images(2)))
    kept = first.copy()
    only(session.run(images(2) + 1))
    assert (first == kept).all()


def image_graph(
    path: Path, shape: list[int | str], nodes: list[onnx.NodeProto], inputs: int = 1
) -> Path:
    """An ONNX file from `x` (and `x1` …) of a shape to `y`."""
    of = onnx.TensorProto.FLOAT
    names = ["x", *(f"x{i}" for i in range(1, inputs))]
    given = [onnx.helper.make_tensor_value_info(name, of, shape) for name in names]
    gives = [onnx.helper.make_tensor_value_info("y", of, None)]
    graph = onnx.helper.make_graph(nodes, "graph", given, gives)
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


FLATTEN = [onnx.helper.make_node("Flatten", ["x"], ["y"])]
SQUARE = [
    onnx.helper.make_node("Mul", ["x", "x"], ["s"]),
    onnx.helper.make_node("Flatten", ["s"], ["y"]),
]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_zero_in_the_runtime_and_nowhere_else(
    runtime: str, threads: int, tmp_path: Path
) -> None:
    path = image_graph(tmp_path / "square.onnx", ["n", 3, 64, 64], SQUARE)
    tiny = np.full((2, 3, 64, 64), 1e-21, np.float32)
    session = open_session(path, runtime, threads)
    for _ in range(2):
        assert (only(session.run(tiny)) == 0).all()
        assert (tiny * tiny > 0).all() and 5e-324 * 1.0 > 0


def test_its_memory_is_measured(vgg: Path) -> None:
    assert 10**7 < first_run(vgg, "openvino", 1).peak_memory_bytes < 10**9


def test_a_fixed_batch_is_said(tmp_path: Path) -> None:
    path = image_graph(tmp_path / "fixed.onnx", [2, 3, 8, 8], FLATTEN)
    session = OpenVinoSession(path, 1, "f32")
    assert session.batch_size == 2 and only(session.run(np.ones((2, 3, 8, 8), "f"))).shape == (
        2,
        192,
    )
    with pytest.raises(UserError, match="takes 2 images, not 3"):
        only(session.run(np.ones((3, 3, 8, 8), np.float32)))


def test_files_that_it_cannot_take(tmp_path: Path) -> None:
    for name in ("x.onnx", "x.xml"):
        (tmp_path / name).write_bytes(b"not a model")
    (tmp_path / "y.xml").write_bytes(b'<?xml version="1.0" encoding="nonsense"?><net/>')
    for name in ("x.bin", "y.bin"):
        (tmp_path / name).write_bytes(b"")
    two = [onnx.helper.make_node("Add", ["x", "x1"], ["y"])]
    image_graph(tmp_path / "two.onnx", ["n", 3, 8, 8], two, inputs=2)
    image_graph(tmp_path / "flat.onnx", ["n", 3], FLATTEN)
    image_graph(tmp_path / "free.onnx", ["n", 3, "h", "w"], FLATTEN)
    for name, expected in {
        "missing.onnx": "No model at",
        "missing.xml": "No model at",
        "x.onnx": r"x\.onnx cannot be loaded by openvino",
        "x.xml": r"x\.xml is no OpenVINO model",
        "y.xml": r"y\.xml is no OpenVINO model",
        "two.onnx": "expected one input",
        "flat.onnx": "expected one input",
        "free.onnx": "leaves its input's height and width free",
    }.items():
        with pytest.raises(UserError, match=expected):
            OpenVinoSession(tmp_path / name, 1, "f32")
    square = image_graph(tmp_path / "square.onnx", ["n", 3, 8, 8], SQUARE)
    with pytest.raises(UserError, match=r"openvino cannot run .*square\.onnx"):
        only(OpenVinoSession(square, 1, "f32").run(np.ones((1, 3, 9, 9), np.float32)))


def test_without_the_package_it_says_what_to_install(
    vgg: Path, write_recipe: Write, shapes: Path
) -> None:
    code = (
        "import sys; sys.modules['openvino'] = None; from pathlib import Path;"
        "from compress.models.sessions import open_session;"
        "open_session(Path(sys.argv[1]), 'openvino', 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(vgg)], capture_output=True, text=True, check=False
    )
    needed = "The runtime openvino needs OpenVINO: pip install 'compress[openvino]'"
    assert f"compress.utils.errors.UserError: {needed}" in done.stderr

    here = machine()
    versions = {name: v for name, v in here.versions.items() if name != "openvino"}
    without = here.model_copy(update={"versions": versions})
    path = write_recipe(tiny_recipe(shapes))
    make_plan(load_recipe(path), without, 1)
    asked = load_recipe(path, assignments=["measure.runtimes=[onnxruntime, openvino-bf16]"])
    with pytest.raises(UserError, match=r"pip install 'compress\[openvino\]'"):
        make_plan(asked, without, 1)


# OpenVINO's own files


NAMED = SPEC.model_copy(update={"classes": ('"quoted" & <tag>', "Wal", "鯨", "d", "e", "f", "g")})


@pytest.fixture
def ir(vgg: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.xml"
    save_ir(ov.Core().read_model(vgg), path, NAMED)
    return path


def test_an_ir_comes_back_as_it_was(ir: Path, vgg: Path) -> None:
    assert sorted(p.name for p in ir.parent.iterdir()) == ["model.bin", "model.xml"]
    expected = only(OpenVinoSession(vgg, 1, "f32").run(images(3)))
    assert (only(OpenVinoSession(ir, 1, "f32").run(images(3))) == expected).all()  # float32 weights
    assert spec_of(ir) == NAMED and spec_of(vgg) == SPEC
    assert OpenVinoSession(vgg, 1, "f32").spec == SPEC.model_dump_json()
    # Written over: the second is whole, and the model that was saved is as before.
    model = read_ir(ir)
    save_ir(model, ir, SPEC)
    assert spec_of(ir) == SPEC
    assert model.get_rt_info(["compress", "input"]).astype(str) == NAMED.model_dump_json()


def test_an_ir_is_two_files(ir: Path) -> None:
    weights = ir.with_suffix(".bin")
    assert files_of(ir) == [ir, weights]
    assert files_of(weights.with_suffix(".onnx")) == [weights.with_suffix(".onnx")]
    assert size_of(ir) == ir.stat().st_size + weights.stat().st_size
    before = sha256_of(ir)
    weights.write_bytes(weights.read_bytes()[::-1])
    assert sha256_of(ir) != before


def test_weights_that_are_not_its_own_are_refused(ir: Path, tmp_path: Path) -> None:
    weights = ir.with_suffix(".bin")
    whole = weights.read_bytes()
    other = bytearray(whole)
    other[100] ^= 1  # another model's of the same shape: OpenVINO would run it
    for wrong in (whole[:-1], bytes(other), b""):
        weights.write_bytes(wrong)
        with pytest.raises(UserError, match=r"model\.bin does not belong to model\.xml"):
            read_ir(ir)
    weights.unlink()
    with pytest.raises(UserError, match=r"No file at .*model\.bin: .* is two files"):
        read_ir(ir)
    weights.write_bytes(whole)
    read_ir(ir)


def test_a_full_disk_is_said(vgg: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; import openvino as ov;"
        "from compress.runtimes.openvino_ir import save_ir;"
        "from tests.export.test_export import SPEC;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "model = ov.Core().read_model(sys.argv[1]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY));"
        "save_ir(model, Path(sys.argv[2]), SPEC)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(vgg), str(tmp_path / "model.xml")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "could not be written" in done.stderr and "is the disk full?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def binary_graph(weights: np.ndarray) -> ov.Model:
    """Signs of x, repeated to 8 channels, convolved with those of the weights (out, 8, 3, 3)."""
    x = opset1.parameter([-1, 3, 8, 8], np.float32, name="x")
    eight = opset1.concat(
        [x, x, opset1.strided_slice(x, [0, 0], [0, 2], [1, 1], [1, 0], [1, 0])], 1
    )
    zero, one = opset1.constant(np.float32(0)), opset1.constant(np.float32(1))
    bits = opset1.fake_quantize(eight, zero, zero, zero, one, 2)
    packed = np.packbits(weights.reshape(-1) > 0, bitorder="little")
    tensor = ov.Tensor(packed, ov.Shape(weights.shape), ov.Type.u1)
    filters = ov.op.Constant(tensor, shared_memory=False)
    sums = opset1.binary_convolution(
        bits, filters, [1, 1], [1, 1], [1, 1], [1, 1], "xnor-popcount", 0.0
    )
    flat = opset1.reshape(sums, opset1.constant(np.array([0, -1])), True)
    return ov.Model([opset1.result(flat)], [x], "binary")


def test_binary_convolutions_run_and_their_bit_order_is_stated(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(5, 8, 3, 3))
    spec = InputSpec(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1), classes=("a", "b"))
    save_ir(binary_graph(weights), tmp_path / "ours.xml", spec)
    session = OpenVinoSession(tmp_path / "ours.xml", 1, "f32")
    for count in (1, 3):
        x = torch.randn(count, 3, 8, 8)
        signs = torch.where(torch.cat([x, x, x[:, :2]], 1) > 0, 1.0, -1.0)
        expected = F.conv2d(signs, torch.from_numpy(np.sign(weights)).float(), padding=1)
        assert (only(session.run(x.numpy())) == expected.flatten(1).numpy()).all()

    ov.serialize(binary_graph(weights), tmp_path / "others.xml", tmp_path / "others.bin")
    with pytest.raises(UserError, match="does not say in which order the bits"):
        read_ir(tmp_path / "others.xml")


def test_an_ir_of_other_tools_is_read(vgg: Path, tmp_path: Path) -> None:
    model = ov.Core().read_model(vgg)
    ov.save_model(model, tmp_path / "made.xml", compress_to_fp16=False)
    assert spec_of(tmp_path / "made.xml") == SPEC  # OpenVINO kept the ONNX file's metadata
    del model.rt_info["framework"]
    ov.save_model(model, tmp_path / "bare.xml", compress_to_fp16=False)
    expected = only(OnnxSession(vgg, 1).run(images(2)))
    got = only(OpenVinoSession(tmp_path / "bare.xml", 1, "f32").run(images(2)))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match="--spec"):
        spec_of(tmp_path / "bare.xml")
    weights = tmp_path / "bare.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"bare\.xml cannot be loaded by openvino"):
        read_ir(tmp_path / "bare.xml")


def test_records_of_before_still_load(ir: Path) -> None:
    record = {
        "path": ir.name, "runtime": "onnxruntime", "sha256": "0", "size_bytes": 1, "parameters": 2,
        "macs": None, "uncounted_operations": [], "spec": SPEC.model_dump(),
    }  # fmt: skip
    (ir.parent / "artifact.json").write_text(json.dumps(record))
    artifact = Artifact.load(ir.parent)
    assert artifact.facts(ir.parent, "openvino-bf16").runtime == "openvino-bf16"
    artifact.save(ir.parent)
    assert Artifact.load(ir.parent) == artifact


# A recipe in two runtimes


def run(path: Path, out: Path) -> list[Result]:
    return run_recipe(
        load_recipe(path),
        out,
        Progress(Console(quiet=True)),
        "compress run",
        report=reports_in(out),
    )[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> tuple[Path, list[Result]]:
    """A student, its control, and an int8 teacher that is declared to be slow in onnxruntime."""
    out = tmp_path_factory.mktemp("out")
    recipe = tiny_recipe(shapes)
    recipe["teacher"]["train"]["epochs"] = 1
    distill = recipe["candidates"].pop("shufflenet_v2_x0_5")[0]["distill"]
    # A narrow VGG again: it is exported in no time.
    distill |= {"student": recipe["teacher"]["builder"]}
    distill |= {"student_settings": recipe["teacher"]["settings"] | {"width": 0.05}}
    distill["train"]["epochs"] = 1
    quantize = {"images": 8, "judged": 8}
    recipe["candidates"] |= {"student": [{"distill": distill}], "int8": [{"quantize": quantize}]}
    recipe["measure"] |= {"runtimes": ["onnxruntime", "openvino"], "processes": 1}
    (out / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            compress.workflow.stages.latency, "first_run", lambda *_: FirstRun(1, 1.0, None)
        )
        patch.setattr(layer_search, "PROCESSES", 1)
        patch.setattr(layer_search, "ROUNDS", 5)
        patch.setattr(layer_search, "SLOWER", 1e9)
        return out, run(out / "tiny.yaml", out)


def test_every_row_is_compared_in_its_own_runtime(finished: tuple[Path, list[Result]]) -> None:
    out, results = finished
    rows = {(r.candidate, r.artifact.runtime): r for r in results}
    names = ("teacher", "student", "student (no teacher)", "int8")
    both = [(name, runtime) for name in names for runtime in ("onnxruntime", "openvino")]
    assert set(rows) == {*both, ("teacher", "torch")} and len(results) == len(rows)
    for name, runtime in both:
        row, teacher = rows[name, runtime], rows["teacher", runtime]
        # One file for both; each was judged and timed where it says.
        file = rows[name, "onnxruntime"].artifact
        assert row.artifact == file.model_copy(update={"runtime": runtime})
        assert (out / row.artifact.path).is_file()
        served = row.speedup_as_served
        assert served and (served.runtime, served.against) == ("torch", "teacher")
        if row is teacher:
            assert row.speedup is None and row.accuracy.top1_drop is None
            continue
        for which, got in ((0, row.speedup), (-1, row.throughput_speedup)):
            times = teacher.latency[which], row.latency[which]
            assert got == speedup("teacher", runtime, *times)
        expected = paired_drop(teacher.accuracy.correct, row.accuracy.correct)
        assert row.accuracy.top1_drop == expected
        if name == "student":
            control = rows["student (no teacher)", runtime]
            gain = paired_drop(row.accuracy.correct, control.accuracy.correct)
            assert row.gain_over_control == gain
    one, other = (rows["student", x].latency[0] for x in ("onnxruntime", "openvino"))
    assert one.samples_s != other.samples_s


def test_what_int8_was_measured_to_be_in_onnxruntime_drops_no_other_row(
    finished: tuple[Path, list[Result]],
) -> None:
    int8 = {r.artifact.runtime: r for r in finished[1] if r.candidate == "int8"}
    reason = int8["onnxruntime"].dropped
    assert reason is not None and "slower than the float file" in reason
    assert int8["openvino"].dropped is None
    assert int8["openvino"].notes == [f"Dropped in onnxruntime, where it was measured: {reason}"]


def test_the_report_shows_both(finished: tuple[Path, list[Result]]) -> None:
    out, _ = finished
    report = (out / "reports" / "tiny" / "report.md").read_text("utf-8")
    few = [line for line in report.splitlines() if "There are only 9 validation images" in line]
    assert len(few) == 1
    whose = few[0].removeprefix("- teacher in ").split(": ")[0]
    assert sorted(whose.split(" and ")) == ["onnxruntime", "openvino"]
    files = [line for line in report.splitlines() if "sha256" in line]
    assert len(files) == 5  # one for each candidate, the teacher's weights for torch
    assert "openvino 20" in report  # the version


def test_a_second_run_does_nothing_twice(
    finished: tuple[Path, list[Result]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, results = finished
    monkeypatch.setattr(compress.workflow.run.Store, "compute", None)
    assert run(out / "tiny.yaml", out) == results


def test_eval_and_predict_take_an_ir(
    finished: tuple[Path, list[Result]], shapes: Path, tmp_path: Path
) -> None:
    out, results = finished
    model = out / results[0].artifact.path
    path = tmp_path / "model.xml"
    save_ir(ov.Core().read_model(model), path, spec_of(model))
    expected = evaluate_file(model, shapes).accuracy
    assert evaluate_file(path, shapes).accuracy.correct == expected.correct
    (names,) = predict_files(path, [shapes / "bar" / "00.png"])
    assert not isinstance(names, UserError) and sum(p for _, p in names) == pytest.approx(1)
    done = CliRunner().invoke(app, ["eval", str(path), "--data", str(shapes), "--json"])
    assert json.loads(done.stdout)["top1"]["value"] == expected.top1.value


def test_an_ir_that_a_step_made_is_exported_with_its_weights(
    finished: tuple[Path, list[Result]], vgg: Path, tmp_path: Path
) -> None:
    candidate = make("vgg")
    (tmp_path / "model").mkdir()
    (tmp_path / "export").mkdir()
    made = tmp_path / "model" / "binary.xml"
    save_ir(ov.Core().read_model(vgg), made, SPEC)
    stage = plan_of(finished[0] / "tiny.yaml").entries[0].artifact
    deployed = candidate.deployed_as(made.name, StepReport(step="binarize"))
    deployed.save(tmp_path / "model", {}, {})
    context: Any = type("Allowed", (), {"allowed": (), "machine": machine()})
    export.run(stage, {"model": tmp_path / "model"}, tmp_path / "export", context)
    artifact = Artifact.load(tmp_path / "export")
    assert artifact.path == (tmp_path / "export" / "model.xml").resolve()
    assert artifact.sha256 == sha256_of(artifact.path)
    assert artifact.path.with_suffix(".bin").read_bytes() == made.with_suffix(".bin").read_bytes()
    assert artifact.size_bytes == size_of(artifact.path)
    session = OpenVinoSession(artifact.path, 1, "f32")
    assert session.spec == SPEC.model_dump_json()
    assert reference_of(session, "openvino") and reference_of(session, "onnxruntime") is None
    assert difference_here(session, "openvino", machine()) is None
    assert (artifact.macs, artifact.uncounted_operations) == (None, [])
    assert artifact.parameters == sum(p.numel() for p in candidate.model.parameters())
    expected = only(OpenVinoSession(made, 1, "f32").run(images(2)))
    assert (only(OpenVinoSession(artifact.path, 1, "f32").run(images(2))) == expected).all()


# Recipes


def plan_of(path: Path, *assignments: str) -> Plan:
    return make_plan(load_recipe(path, assignments=assignments), machine(), 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[openvino, openvino]", "names openvino twice"),
        ("[]", "at least 1 item"),
        ("[tensorrt]", "'onnxruntime', 'openvino' or 'openvino-bf16', not 'tensorrt'"),
        ("[torch]", "not 'torch'"),
        ("openvino", "expected a list"),
    ],
)
def test_runtimes_that_cannot_be(
    value: str, expected: str, write_recipe: Write, tmp_path: Path
) -> None:
    path = write_recipe(tiny_recipe(tmp_path))
    with pytest.raises(UserError, match=rf"--set: measure\.runtimes.*{expected}"):
        load_recipe(path, assignments=[f"measure.runtimes={value}"])


def test_runtimes_share_files_and_nothing_else(write_recipe: Write, shapes: Path) -> None:
    path = write_recipe(tiny_recipe(shapes))
    before = plan_of(path)
    plan = plan_of(path, "measure.runtimes=[onnxruntime, openvino, openvino-bf16]")
    students = [e for e in plan.entries if e.candidate == "shufflenet_v2_x0_5"]
    assert [e.runtime for e in students] == ["onnxruntime", "openvino", "openvino-bf16"]
    assert len({e.artifact.key for e in students}) == 1
    assert len({e.accuracy.key for e in students}) == 3
    # Asked for or not, openvino changes nothing in what was there: it is not done again.
    assert {s.key for s in before.stages} - {s.key for s in plan.stages} == {before.key}
    only = plan_of(path, "measure.runtimes=[openvino]")
    assert [(e.candidate, e.runtime) for e in only.entries] == [
        ("teacher", "openvino"),
        ("teacher", "torch"),
        ("shufflenet_v2_x0_5", "openvino"),
        ("shufflenet_v2_x0_5 (no teacher)", "openvino"),
    ]


def test_a_step_whose_files_run_in_one_runtime(
    write_recipe: Write, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quantize, "runtimes", ("openvino",))
    recipe = tiny_recipe(shapes)
    recipe["candidates"]["int8"] = [{"quantize": {"images": [8, 16]}}]
    recipe["measure"]["runtimes"] = ["onnxruntime"]
    path = write_recipe(recipe)
    line = path.read_text().splitlines().index("  runtimes:") + 1
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert str(caught.value) == (
        f"{path} has 1 fault:\n  {path}:{line}: measure.runtimes: int8 ends with quantize, whose "
        "files run in openvino only: add openvino to measure.runtimes"
    )
    plan = plan_of(path, "measure.runtimes=[onnxruntime, openvino]")
    int8 = [e.runtime for e in plan.entries if e.candidate.startswith("int8")]
    assert int8 == ["openvino", "openvino"]
    assert sum(e.runtime == "onnxruntime" for e in plan.entries) == 3


# Reports


def test_runtimes_can_be_told_apart() -> None:
    teachers = [
        result("teacher", role="teacher", runtime=runtime, latency_s=0.05)
        for runtime in ("onnxruntime", "openvino", "openvino-bf16")
    ]
    notes = ["the same"]
    rows = [
        *teachers,
        result("small", runtime="openvino", latency_s=0.004, top1=0.81, notes=notes),
        result("small", runtime="openvino-bf16", latency_s=0.003, top1=0.80, notes=notes),
        result("small", runtime="onnxruntime", latency_s=0.005, top1=0.82, notes=["another"]),
    ]
    drawn = svg(pareto_chart(summarise(rows)))
    for runtime in ("onnxruntime", "openvino", "openvino-bf16"):
        assert f">{runtime}</text>" in drawn
    said = content(summarise(rows), "title")
    assert said.notes[0].startswith("teacher in onnxruntime, openvino and openvino-bf16: cannot be")
    assert said.notes[1:] == [
        "small in openvino-bf16 and openvino: the same",
        "small in onnxruntime: another",
    ]
    meanings = dict(said.definitions)
    assert "bfloat16" in meanings["openvino-bf16"]
    assert "openvino-bf16" not in dict(content(summarise(rows[:2]), "title").definitions)
