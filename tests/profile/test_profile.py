"""Kernels become layers, layers blocks; nothing is lost and the sums are right."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import quantize_dynamic
from torch import nn

import compress.methods.binarize.layer_timing
from compress.data.input_spec import InputSpec
from compress.export.int8 import quantize_model
from compress.export.onnx import export_onnx
from compress.measure import kernels
from compress.measure.deployable import as_deployed
from compress.measure.file_nodes import _from_path, read_network
from compress.measure.kernels import Timing, mean_kernels, time_kernels
from compress.measure.layer_profile import (
    CLOCK_S,
    LAYOUT,
    Layer,
    layers_of,
    owners,
    without_profile,
)
from compress.measure.layer_times import LayerShape, chain_model
from compress.measure.macs import count_macs
from compress.models.candidate import Candidate
from compress.profile import roofline as limits
from compress.profile.blocks import in_blocks, tree
from compress.profile.records import BETWEEN, Part
from compress.profile.roofline import measure_limits, reach
from compress.runtimes.base import Kernel
from compress.runtimes.onnxruntime import kernels_by_call
from tests.onnx_graphs import FLOAT, WEIGHT, classifier, save
from tests.profiles import LIMITS, layer

SPEC = InputSpec(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1), classes=tuple("abc"))
NETWORKS = {
    "vgg": ("teachers.vgg:vgg16_bn", {"pool": 1, "classifier_width": 16, "width": 0.1}),
    "mobilenet": ("students.mobilenet:mobilenet_v3_small", {}),
}
RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "ATTEMPTS", 1)
    monkeypatch.setattr(kernels, "TURNS", 2)
    monkeypatch.setattr(kernels, "TURN_S", 0.002)


@pytest.fixture(scope="module", params=NETWORKS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Candidate, Path]:
    builder, settings = NETWORKS[request.param]
    candidate = Candidate.create(builder, settings, SPEC, (request.param,), 0, ())
    path = tmp_path_factory.mktemp("profile") / f"{request.param}.onnx"
    export_onnx(candidate, path)
    return candidate, path


@pytest.fixture
def int8(tmp_path: Path) -> Path:
    """Two convolutions and a linear layer of another file's kind: no names, int8."""
    shapes = (LayerShape(3, 32, (3, 3), padding=(1, 1), input_size=(8, 8)),)
    shapes += (LayerShape(32, 16, (1, 1), input_size=(8, 8)),)
    model = quantize_model(
        chain_model(shapes), dict.fromkeys(("input", "layer0", "layer1", "output"), (-3.0, 3.0))
    )
    path = tmp_path / "int8.onnx"
    (tmp_path / "copy").mkdir()
    onnx.save(model, path)
    return path


def layers_in(path: Path, runtime: str) -> tuple[list[Layer], Timing]:
    path = as_deployed(path, None, 1, path.parent / "copy")
    timing = time_kernels(path, runtime, threads=1, batch=1)
    return layers_of(read_network(path, 1), timing), timing


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_layer_of_the_network_is_found_once(
    exported: tuple[Candidate, Path], runtime: str
) -> None:
    candidate, path = exported
    layers, _ = layers_in(path, runtime)
    # OpenVINO makes one kernel of two small linear layers.
    names = [name for x in layers if x.macs for name in x.name.split(" to ")]
    modules = candidate.model.named_modules()
    its = [n for n, m in modules if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sorted(names) == sorted(its)
    assert sum(x.macs or 0 for x in layers) == count_macs(path)[0]
    stored = sum(p.numel() for n, p in candidate.model.named_parameters() if p.dim() > 1)
    assert 4 * stored <= sum(x.weight_bytes for x in layers) <= 4.2 * stored + 4096
    kinds = {x.operation for x in layers if x.macs}
    assert "linear" in kinds and "conv 3×3" in kinds
    assert all(x.precision == "float32" for x in layers if x.macs)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_parts_add_up_to_the_whole(exported: tuple[Candidate, Path], runtime: str) -> None:
    _, path = exported
    layers, timing = layers_in(path, runtime)
    root = tree("network", in_blocks(layers), timing.whole_s)
    assert root.seconds == pytest.approx(timing.whole_s, rel=0.05)
    assert root.parts[-1].name == BETWEEN
    for part in _all(root):
        assert not part.parts or sum(p.seconds for p in part.parts) == pytest.approx(part.seconds)
    leaves = [p for p in _all(root) if not p.parts and p.name != BETWEEN]
    assert [p.seconds for p in leaves] == [x.seconds for x in layers]


def _all(part: Part) -> Iterator[Part]:
    yield part
    for inner in part.parts:
        yield from _all(inner)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_layers_are_called_so_and_move_a_quarter(int8: Path, runtime: str) -> None:
    layers, _ = layers_in(int8, runtime)
    first, second = (x for x in layers if x.macs)
    assert (first.precision, second.precision) == ("int8", "int8")
    assert (first.macs, second.macs) == (3 * 9 * 32 * 64, 32 * 16 * 64)
    assert first.weight_bytes >= 3 * 9 * 32  # and scales, zero points, the bias
    assert first.weight_bytes < 2 * 3 * 9 * 32
    assert first.activation_bytes == pytest.approx(64 * (3 + 32), rel=0.3)


def test_what_is_rounded_as_it_is_read_is_int8_too(tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    (tmp_path / "copy").mkdir()
    quantize_dynamic(classifier(tmp_path / "float.onnx"), path)
    layers, _ = layers_in(path, "onnxruntime")
    assert [(x.kernel, x.precision) for x in layers if x.macs] == [
        ("DynamicQuantizeMatMul", "int8")
    ]


def test_an_openvino_model_asks_for_what_its_onnx_file_asks(
    exported: tuple[Candidate, Path], tmp_path: Path
) -> None:
    _, path = exported
    ir = tmp_path / "model.xml"
    ov.save_model(ov.Core().read_model(path), ir, compress_to_fp16=False)
    for batch in (1, 3):
        ours = sorted((n.operation, n.macs) for n in read_network(path, batch) if n.macs)
        theirs = sorted((n.operation, n.macs) for n in read_network(ir, batch) if n.macs)
        assert theirs == ours
    modules = {n.module for n in read_network(path, 1) if n.operation.startswith("conv")}
    assert {n.module for n in read_network(ir, 1) if n.operation.startswith("conv")} == modules


def test_more_images_are_more_work(exported: tuple[Candidate, Path]) -> None:
    _, path = exported
    one, three = (sum(n.macs or 0 for n in read_network(path, batch)) for batch in (1, 3))
    assert three == 3 * one == 3 * (count_macs(path)[0] or 0)


def test_only_images_have_a_batch(tmp_path: Path) -> None:
    """Old files list weights among the inputs; other inputs may have no sizes at all."""
    for listed in (False, True):
        assert count_macs(classifier(tmp_path / "m.onnx", listed=listed)) == (9, [])
    nodes = [onnx.helper.make_node("Mul", ["x", "factor"], ["m"]),
             onnx.helper.make_node("MatMul", ["m", "weight"], ["y"])]  # fmt: skip
    inputs: dict[str, tuple[int, Any]] = {"x": (FLOAT, ("n", 3)), "factor": (FLOAT, ())}
    path = save(tmp_path / "two.onnx", nodes, inputs, {"y": (FLOAT, 2)}, {"weight": WEIGHT})
    assert sum(node.macs or 0 for node in read_network(path, 2)) == 2 * 9
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, path)
    assert count_macs(path) == (None, ["MatMul"])


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/features/features.0/features.0.1/Clip", "features.0.1"),
        ("/Flatten", None),
        ("Conv_0", None),
    ],
)
def test_modules_of_older_exporters(name: str, module: str | None) -> None:
    assert _from_path(name) == module


def event(name: str, start: int, duration: int, **more: object) -> dict[str, object]:
    arguments = {
        "op_name": name, "node_index": "0", "activation_size": "8", "output_size": "4",
        "input_type_shape": [{"float": [2]}], "output_type_shape": [{"float": [1]}],
    }  # fmt: skip
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration,
        "args": arguments, **more,
    }  # fmt: skip


def test_a_profile_is_cut_into_calls_and_a_graph_inside_a_kernel_counts_once() -> None:
    found = kernels_by_call(
        [
            event("Then", 12, 5),
            event("If", 10, 9),  # runs the graph that Then is in
            event("Conv", 1, 4),
            {"cat": "Session", "name": "model_run", "ts": 0, "dur": 30},
            {"cat": "Session", "name": "model_run", "ts": 40, "dur": 30},
            event("Conv", 41, 6),
            event("If", 50, 11),
        ]
    )
    assert [[k.operation for k in call] for call in found] == [["Conv", "If"]] * 2
    assert [k.seconds for k in mean_kernels(found)] == pytest.approx([5e-6, 10e-6])
    assert found[0][0].activation_bytes == 12 and found[0][0].precision == "float32"


def kernel(*names: str, operation: str = "Conv", seconds: float = 1.0) -> Kernel:
    return Kernel(operation, "float32", (1, 4, 8, 8), 100, names, seconds)


def test_what_a_kernel_is_named_after_and_what_leads_to_it_is_its(tmp_path: Path) -> None:
    """A convolution with its ReLU named after the ReLU, one named after itself with a sum."""
    helper, tensor = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.zeros((4, 4, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["conv_a"], "node_a", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["conv_a"], ["relu_a"], "node_relu"),
        helper.make_node("Conv", ["relu_a", "b.weight"], ["conv_b"], "node_b", kernel_shape=[1, 1]),
        helper.make_node("Add", ["conv_b", "x"], ["sum"], "node_sum"),
        helper.make_node("Relu", ["sum"], ["relu_b"], "node_last"),
        helper.make_node("GlobalAveragePool", ["relu_b"], ["y"], "node_pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", tensor, ["n", 4, 8, 8])],
        [helper.make_tensor_value_info("y", tensor, None)],
        [onnx.numpy_helper.from_array(weights, f"{name}.weight") for name in "ab"],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    found = [
        kernel("ReorderInput", operation="ReorderInput"),
        kernel("relu_a_nchwc"),
        kernel("conv_b_nchwc_token_3"),
        kernel("fused node_pool", operation="GlobalAveragePool"),
    ]
    network = read_network(path, 1)
    assert owners(network, found) == [1, 1, 2, 2, 2, 3]
    layers = layers_of(network, Timing(4.0, 4.0, found, 0.0))
    assert [(x.name, x.operation, x.macs) for x in layers] == [
        ("", LAYOUT, 0),
        ("a", "conv 1×1", 4 * 4 * 64),
        ("b", "conv 1×1", 4 * 4 * 64),
        ("node_pool", "GlobalAveragePool", 0),
    ]


seconds = st.lists(st.floats(1e-7, 1e-3), min_size=1, max_size=20)


@given(seconds, st.floats(1e-7, 1e-3), st.floats(0.1, 3))
def test_what_a_profile_costs_is_taken_off(
    kernels_s: list[float], gap: float, ratio: float
) -> None:
    total = sum(kernels_s)
    whole_s, profiled_s = total * ratio, total + gap
    found = without_profile(kernels_s, profiled_s, whole_s)
    assert len(found) == len(kernels_s) and min(found) >= 0
    if total <= whole_s or profiled_s <= whole_s:
        assert found == kernels_s
        return
    assert math.fsum(found) == pytest.approx(whole_s)
    order = np.argsort(kernels_s, kind="stable")
    assert (np.diff(np.asarray(found)[order]) >= -1e-12).all()  # the slowest stays the slowest
    if sum(max(0.0, s - CLOCK_S) for s in kernels_s) < whole_s:
        assert all(s - f <= CLOCK_S * (1 + 1e-6) for s, f in zip(kernels_s, found, strict=True))


def blocks_of(layers: list[Layer]) -> list[str]:
    return list(dict.fromkeys(x.block for x in in_blocks(layers)))


def test_blocks_are_what_the_author_named() -> None:
    names = ["conv1", *(f"layer{i}.{k}.conv1" for i in (1, 2, 3) for k in (0, 1)), "fc"]
    assert blocks_of([layer(name) for name in names]) == [
        "conv1", "layer1", "layer2", "layer3", "fc"
    ]  # fmt: skip


def test_where_one_name_holds_all_neighbours_of_one_size_are_a_block() -> None:
    layers = []
    for number in range(13):
        size = 32 >> (number // 4)
        layers.append(layer(f"features.{2 * number}", output_shape=(1, 8, size, size)))
        # Pooling halves the map, and belongs to what it pools; a change of layout has no name.
        if number % 4 == 3:
            pooled = (1, 8, size // 2, size // 2)
            facts = {"macs": 0, "operation": "MaxPool", "output_shape": pooled}
            layers.append(layer(f"features.{2 * number + 1}", **facts))
            layers.append(layer("", **facts | {"operation": LAYOUT}))
    layers.append(layer("classifier.1", operation="linear", output_shape=(1, 10), seconds=1e-4))
    assert blocks_of(layers) == [
        "features.0 to features.7",
        "features.8 to features.15",
        "features.16 to features.23",
        "features.24",
        "classifier.1",
    ]
    assert [x.seconds for x in in_blocks(layers)] == [x.seconds for x in layers]


def test_files_without_names_have_blocks_too() -> None:
    layers = [layer(f"Conv_{i}", output_shape=(1, 8, 64 >> i // 10, 9)) for i in range(30)]
    assert blocks_of(layers) == ["Conv_0 to Conv_9", "Conv_10 to Conv_19", "Conv_20 to Conv_29"]
    assert blocks_of([layer("")]) == ["network"]
    assert tree("x", in_blocks([layer()]), 0.01 + 1e-17).parts[-1].seconds == 0.0
    assert tree("nothing", [], 1.0).parts == (Part(name=BETWEEN, seconds=1.0, kind=BETWEEN),)


def test_kernels_of_one_layer_and_what_is_fused_to_it_are_not_split() -> None:
    """A convolution that runs several times, each time in one kernel with its activation."""
    names = ["stem", *["head.conv to head.act"] * 3, "head.conv", "fc"]
    root = tree("network", in_blocks([layer(name) for name in names]), 0.1)
    assert [part.name for part in _all(root) if part.kind == "conv 3×3"] == names


@given(
    st.integers(0, 10**12), st.integers(0, 10**9), st.integers(1, 10**9),
    st.floats(1e-6, 10), st.sampled_from(["float32", "int8"]),
)  # fmt: skip
def test_the_roofline_is_williams(
    macs: int, weights: int, maps: int, taken_s: float, precision: str
) -> None:
    """Attainable is min(compute, bandwidth x intensity), as the paper has it."""
    one = layer(
        macs=macs, weight_bytes=weights, activation_bytes=maps, seconds=taken_s, precision=precision
    )
    found = reach(one, LIMITS)
    assert found is not None
    peak, bandwidth = LIMITS.macs_per_s[precision].value, LIMITS.bytes_per_s.value
    if macs:
        attainable = min(peak, bandwidth * macs / (weights + maps))
        assert found.share == pytest.approx(macs / taken_s / attainable)
        assert (found.bound == "compute") == (attainable == peak)
    else:
        assert found.share == pytest.approx((weights + maps) / taken_s / bandwidth)
        assert found.bound == "memory"


def test_without_its_work_or_its_limit_a_layer_has_no_share() -> None:
    assert reach(layer(macs=None), LIMITS) is None
    assert reach(layer(precision="binary"), LIMITS) is None
    assert reach(layer(seconds=0.0), LIMITS) is None


def test_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = LayerShape(32, 32, (3, 3), padding=(1, 1), input_size=(8, 8))
    monkeypatch.setattr(limits, "_large", lambda: [small])
    monkeypatch.setattr(compress.methods.binarize.layer_timing, "LARGE", ((64, 8),))
    monkeypatch.setattr(compress.methods.binarize.layer_timing, "LEAST_S", 0.005)
    monkeypatch.setattr(limits, "LEAST_S", 0.002)
    found = measure_limits(["float32", "int8", "float16"], threads=1, working_set_bytes=10**6)
    assert found.macs_per_s.keys() == {"float32", "int8"}
    assert all(rate.value > 1e6 for rate in (*found.macs_per_s.values(), found.bytes_per_s))
    assert "2 MB" in found.bytes_per_s.reached_by  # no smaller: a thread takes time to start
