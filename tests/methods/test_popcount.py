"""One layer in float32, int8 and as popcounts: each runs as it is called; what is timed."""

from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
import torch
from torch.nn import functional as F

from compress.measure.layer_times import LayerShape
from compress.methods.binarize import layer_timing as popcount
from compress.methods.binarize.layer_timing import (
    KINDS,
    layer_model,
    layer_samples,
    layer_seconds,
    limits,
)

SHAPE = LayerShape(16, 24, (3, 3), stride=(2, 2), padding=(1, 1), input_size=(9, 7))
POINTWISE = LayerShape(32, 8, (1, 1), input_size=(5, 5))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(popcount, "WORK", 10 * SHAPE.macs)
    monkeypatch.setattr(popcount, "ROUNDS", 3)
    monkeypatch.setattr(popcount, "LEAST_S", 0.0)


@pytest.fixture
def fresh_limits():
    limits.cache_clear()
    yield
    limits.cache_clear()


def compiled(kind: str, copies: int = 3, shape: LayerShape = SHAPE) -> ov.CompiledModel:
    return ov.Core().compile_model(
        layer_model(shape, kind, copies), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )


def operations(model: ov.CompiledModel) -> list[tuple[str, str]]:
    """Kind and precision of what the runtime really executes."""
    told = [operation.get_rt_info() for operation in model.get_runtime_model().get_ops()]
    return [(info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in told]


@pytest.mark.parametrize("shape", [SHAPE, POINTWISE])
def test_a_layer_takes_time_in_each_kind(shape):
    samples = layer_samples(shape, threads=1)
    assert list(samples) == list(KINDS) == ["float32", "int8", "binary"]
    assert all(len(s) == 3 and min(s) > 0 for s in samples.values())


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("float32", ("Convolution", {"f32"})),
        ("int8", ("Convolution", {"u8", "i8"})),
        ("binary", ("BinaryConvolution", {"u1"})),
    ],
)
def test_every_copy_runs_as_what_it_is_called(kind, expected):
    name, precisions = expected
    found = [x for x in operations(compiled(kind, copies=5)) if x[0] in (name, "Convolution")]
    assert len(found) == 5
    assert {n for n, _ in found} == {name} and {p for _, p in found} <= precisions


def test_int8_weights_are_stored_in_int8():
    constants = {p for n, p in operations(compiled("int8")) if n == "Const"}
    assert "i8" in constants


@pytest.mark.parametrize("kind", KINDS)
def test_every_copy_binds_its_own_activations(kind):
    """A network's layer pays for it; one pass that all copies share would be all but free."""
    passes = [
        x for x in operations(compiled(kind, copies=4)) if x[0] in ("FakeQuantize", "Subgraph")
    ]
    assert len(passes) == (0 if kind == "float32" else 4)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_reordered_at_run_time(kind):
    model = ov.Core().compile_model(
        layer_model(SHAPE, kind, 2),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True},
    )
    request = model.create_infer_request()
    request.infer([np.zeros(model.input(0).shape, np.float32)])
    executed = {
        info.node_type
        for info in request.profiling_info
        if info.status == ov.ProfilingInfo.Status.EXECUTED
    }
    assert not executed & {"Reorder", "Transpose", "Convert"}


def test_another_kind_than_asked_for_is_refused():
    float32 = compiled("float32", copies=3)
    with pytest.raises(RuntimeError, match=r"not run a layer in int8 here: 3 of 3 .* f32"):
        popcount._prove(float32, "int8", 3)
    with pytest.raises(RuntimeError, match="0 of 3 as BinaryConvolution in nothing"):
        popcount._prove(float32, "binary", 3)
    with pytest.raises(RuntimeError, match="3 of 4"):
        popcount._prove(float32, "float32", 4)


@pytest.mark.parametrize("shape", [SHAPE, POINTWISE])
@pytest.mark.parametrize("kind", KINDS)
def test_the_timed_layer_has_the_shape(shape, kind):
    layers = [
        x for x in layer_model(shape, kind, 2).get_ops() if "Convolution" in x.get_type_name()
    ]
    assert [list(x.output(0).shape) for x in layers] == [
        [1, shape.out_channels, *shape.output_size]
    ] * 2


def test_the_float_layer_is_a_convolution_of_a_map_with_channels_last():
    rng = np.random.default_rng(1)
    image = rng.standard_normal((1, 9, 7, 16)).astype(np.float32)
    model = layer_model(SHAPE, "float32", 2)
    pixels = model.get_results()[0].input_value(0).get_node().input_values()
    layers = [pixel.get_node().input_value(0).get_node() for pixel in pixels]
    weights = [torch.from_numpy(np.array(x.input_value(1).get_node().data)) for x in layers]
    assert not torch.equal(*weights)
    x = torch.from_numpy(image).permute(0, 3, 1, 2)
    expected = [F.conv2d(x, w, None, SHAPE.stride, SHAPE.padding)[0, :, 0, 0] for w in weights]
    got = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    np.testing.assert_allclose(got.ravel(), torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_12_input_channels_are_refused_for_binary_only():
    odd = replace(SHAPE, in_channels=12)
    with pytest.raises(ValueError, match=r"12 input channels: .* a multiple of 8"):
        layer_seconds([odd], threads=1)
    (seconds,) = layer_seconds([odd], threads=1, kinds=["float32", "int8"])
    assert set(seconds) == {"float32", "int8"} and min(seconds.values()) > 0


@pytest.mark.parametrize(
    "shape",
    [LayerShape(16, 10), replace(SHAPE, groups=2), replace(SHAPE, dilation=(2, 2))],
    ids=["linear", "groups", "dilation"],
)
def test_other_layers_are_refused(shape):
    with pytest.raises(ValueError, match="only plain convolutions are timed"):
        layer_samples(shape, threads=1)


def test_shapes_that_repeat_are_measured_once(monkeypatch):
    asked = []

    def samples(shape, threads, kinds):
        asked.append(shape)
        return {kind: [1.0, 2.0, 9.0 * shape.out_channels] for kind in kinds}

    monkeypatch.setattr(popcount, "layer_samples", samples)
    shapes = [SHAPE, POINTWISE, SHAPE]
    assert layer_seconds(shapes, 1) == [dict.fromkeys(KINDS, 2.0)] * 3
    assert asked == [SHAPE, POINTWISE]


def test_limits_are_the_highest_rate_of_any_call(monkeypatch, fresh_limits):
    asked = []

    def samples(shape, threads, kinds):
        asked.append(threads)
        fastest_s = {8: 2e-6, 16: 3e-6}[shape.in_channels]
        return {"float32": [9.0, fastest_s, 8.0], "int8": [fastest_s / 4], "binary": [1.0]}

    monkeypatch.setattr(popcount, "layer_samples", samples)
    monkeypatch.setattr(popcount, "LARGE", ((8, 10), (16, 10)))
    small, large = 8 * 8 * 9 * 100, 16 * 16 * 9 * 100
    assert limits(2) == pytest.approx(
        {"float32": large / 3e-6, "int8": 4 * large / 3e-6, "binary": large}
    )
    assert small / 2e-6 < large / 3e-6
    assert limits(2) is limits(2) and asked == [2, 2]


def test_limits_of_this_machine_are_positive(monkeypatch, fresh_limits):
    monkeypatch.setattr(popcount, "LARGE", ((16, 6), (32, 6)))
    found = limits(1)
    assert set(found) == set(KINDS) and min(found.values()) > 0


def test_small_layers_are_copied_more_often(monkeypatch):
    monkeypatch.setattr(popcount, "WORK", 1_000_000_000)
    shape = LayerShape(256, 256, (3, 3), padding=(1, 1), input_size=(14, 14))
    assert popcount._copies(shape) == 8
    assert popcount._copies(replace(shape, input_size=(224, 224))) == 2
    assert popcount._copies(SHAPE) == popcount.MOST_COPIES
