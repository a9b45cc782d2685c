"""Three files that are slow for a reason that is known: the reason is named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from typer.testing import CliRunner

import compress.profile.compared
from compress.cli import app
from compress.data.input_spec import InputSpec
from compress.export.int8 import quantize_file, ranges_of
from compress.export.onnx import export_onnx
from compress.measure import kernels, processes
from compress.measure.machine import usable_threads
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.profile import rounds
from compress.profile.against import Other, compare
from compress.profile.comparison import Cause, Comparison
from compress.profile.settings import Settings
from compress.utils.errors import UserError
from tests.profiles import LIMITS, quicken

SIDE, CHANNELS = 48, 16
SPEC = InputSpec(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1), classes=tuple("abc"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    monkeypatch.setattr(kernels, "TURN_S", 0.02)  # a few calls more: kernels are compared
    monkeypatch.setattr(rounds, "ROUNDS", 3)
    monkeypatch.setattr(processes, "ATTEMPTS", 1)
    monkeypatch.setattr(compress.profile.compared, "measure_limits", lambda *_: LIMITS)


def compared(a: Path, b: Path, threads: int = 1, **of_b: object) -> Comparison:
    return compare(str(a), Other(str(b), **of_b), Settings(threads=threads))  # type: ignore[arg-type]


def largest(found: Comparison) -> Cause:
    """Return the largest cause in kernels: what is between them is noise on a busy machine."""
    causes = [cause for cause in found.causes if cause.kind != "between"]
    return max(causes, key=lambda cause: abs(cause.difference_s.value))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depthwise convolutions, and little else."""
    torch.manual_seed(0)
    width = 64
    layers: list[nn.Module] = [nn.Conv2d(3, width, 1)]
    for _ in range(10):
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))
    path = tmp_path_factory.mktemp("against") / "float.onnx"
    export_onnx(Candidate(model, "made up", {}, SPEC, Provenance(("made up",))), path)
    return path


@pytest.fixture(scope="module")
def int8(exported: Path) -> Path:
    images = np.random.default_rng(0).standard_normal((4, *SPEC.shape)).astype(np.float32)
    path = exported.with_name("int8.onnx")
    quantize_file(exported, path, ranges_of(exported, images, "minmax"))
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_depthwise_in_int8(exported: Path, int8: Path, runtime: str) -> None:
    found = compare(str(int8), Other(str(exported)), Settings(threads=1, runtime=runtime))
    depthwise = [x for x in found.pairs if x.a.operation == x.b.operation == "depthwise 3×3"]
    assert [x.name for x in depthwise] == [str(i) for i in range(1, 20, 2)]
    assert {(x.a.precision, x.b.precision) for x in depthwise} == {("int8", "float32")}
    layers = {x.operation: x for x in found.causes if x.kind == "precision"}
    assert "depthwise convolutions, which take" in layers["depthwise"].where
    assert not any("no name" in note for note in found.notes)
    assert any("computes in int8 take" in x for x in found.explanations)


def test_depthwise_in_int8_is_the_cause_in_onnxruntime(exported: Path, int8: Path) -> None:
    """Which of the two is the slower one depends on the CPU, and not what they differ in."""
    found = compared(exported, int8)
    cause = largest(found)
    assert (cause.kind, cause.operation) == ("precision", "depthwise")
    assert {x.name for x in found.apart} >= {"conversion: QuantizeLinear"}


CONVOLUTIONS = 6


def transposed(path: Path, between: bool) -> Path:
    """1×1 convolutions; `between` them maps become channels-last and back, for nothing."""
    rng = np.random.default_rng(0)
    nodes, weights, x = [], [], "images"
    for i in range(CONVOLUTIONS):
        shape = (CHANNELS, CHANNELS if i else 3, 1, 1)
        weight = (rng.standard_normal(shape) * 0.1).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"conv{i}.weight"))
        name = {"name": f"/conv{i}/Conv", "kernel_shape": (1, 1)}
        nodes.append(helper.make_node("Conv", [x, f"conv{i}.weight"], [f"map{i}"], **name))
        x = f"map{i}"
        if between:
            nodes += _there_and_back(x, str(i))
            x = f"first{i}"
    # No optimizer moves a Transpose across rows of nine.
    weights.append(numpy_helper.from_array(np.asarray([1, -1, 9]), "flat"))
    weights.append(numpy_helper.from_array(np.asarray([1, SIDE, SIDE, CHANNELS]), "back"))
    image = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, 3, SIDE, SIDE))
    answer = helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, None)
    for number, node in enumerate(nodes):
        node.name = node.name or f"node_{number}"
    graph = helper.make_graph(nodes, "graph", [image], [answer], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def _there_and_back(x: str, n: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Transpose", [x], [f"last{n}"], perm=(0, 2, 3, 1)),
        helper.make_node("Reshape", [f"last{n}", "flat"], [f"rows{n}"]),
        helper.make_node("Relu", [f"rows{n}"], [f"relu{n}"]),
        helper.make_node("Reshape", [f"relu{n}", "back"], [f"maps{n}"]),
        helper.make_node("Transpose", [f"maps{n}"], [f"first{n}"], perm=(0, 3, 1, 2)),
    ]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return transposed(tmp_path / "plain.onnx", between=False)


def test_transposes_between_layouts(plain: Path, tmp_path: Path) -> None:
    slow = transposed(tmp_path / "slow.onnx", between=True)
    found = compared(slow, plain)
    cause = largest(found)
    assert cause.kind == "layout"
    assert cause.difference_s.value < 0  # what A, the slower one, has more of
    assert cause.change and "keep one layout" in cause.change
    assert [pair.name for pair in found.pairs] == [f"conv{i}" for i in range(CONVOLUTIONS)]
    assert sum(x.a.count for x in found.apart if x.name.startswith("change of layout")) >= 12


@pytest.mark.skipif(usable_threads() < 2, reason="one core")
def test_one_thread(plain: Path) -> None:
    found = compare(str(plain), Other(str(plain), threads=1), Settings(threads=2))
    (cause,) = found.causes
    assert cause.kind == "threads" and "2 in A" in cause.where and "1 in B" in cause.where
    assert (found.a.threads, found.b.threads) == (2, 1)
    assert cause.difference_s == found.difference_s


@pytest.mark.skipif(usable_threads() < 2, reason="one core")
def test_threads_of_another_file_are_a_cause_beside_its_layers(plain: Path, tmp_path: Path) -> None:
    slow = transposed(tmp_path / "slow.onnx", between=True)
    found = compare(str(plain), Other(str(slow), threads=1), Settings(threads=2))
    assert {"threads", "layout"} <= {cause.kind for cause in found.causes}
    assert sum(x.difference_s.value for x in found.causes) == pytest.approx(
        found.difference_s.value
    )


def test_the_same_file_in_two_runtimes(plain: Path) -> None:
    found = compare(str(plain), Other(str(plain), runtime="openvino"), Settings(threads=1))
    assert (found.a.runtime, found.b.runtime) == ("onnxruntime", "openvino")
    assert {x.kind for x in found.causes} >= {"kernel", "between"}
    assert found.pairs[1].b.kernel.startswith("Convolution ")


def test_a_builder_is_compared_with_a_file(plain: Path) -> None:
    settings = Settings(threads=1, size=32)
    name = "torchvision.models:shufflenet_v2_x0_5"
    found = compare(name, Other(name, runtime="openvino"), settings)
    assert found.a.random_weights and found.a.model == name
    assert not any("no name" in note for note in found.notes)


def test_what_does_not_fit_is_refused_in_a_sentence(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "junk.onnx").write_bytes(b"no model")
    cases: dict[str, Callable[[], object]] = {
        "are the same file": lambda: compare(str(plain), Other(str(plain)), Settings(threads=1)),
        "is the folder of a pipeline": lambda: compared(plain, tmp_path / "pipeline"),
        "is no ONNX file": lambda: compared(plain, tmp_path / "junk.onnx"),
        "No model at": lambda: compared(tmp_path / "missing.onnx", plain),
        "No runtime 'tvm'": lambda: compared(plain, plain, runtime="tvm"),
        "leave the images out": lambda: compare(
            str(plain), Other(str(plain)), Settings(photographs=(plain,))
        ),
        "is a detector": lambda: compare(
            str(plain),
            Other("torchvision.models.detection:ssdlite320_mobilenet_v3_large"),
            Settings(),
        ),
    }
    for words, call in cases.items():
        with pytest.raises(UserError, match=words):
            call()


def test_the_command_prints_json_and_writes_a_page(plain: Path, tmp_path: Path) -> None:
    page, slow = tmp_path / "page.html", transposed(tmp_path / "slow.onnx", between=True)
    arguments = ["profile", slow, "--against", plain, "--threads", 1, "--json", "--html", page]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    found = Comparison.model_validate(json.loads(done.stdout))
    assert found.a.model == "slow.onnx" and len(found.pairs) == CONVOLUTIONS
    assert found.verdict in page.read_text("utf-8")
    done = CliRunner().invoke(app, ["profile", str(plain), "--against-threads", "1"])
    assert isinstance(done.exception, UserError) and "--against B" in str(done.exception)
