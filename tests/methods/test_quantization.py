"""Int8 files: what is in them, what runs in integers, and what is put back or dropped."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from compress.export.int8 import (
    INTEGER,
    bias_shifts,
    correct_biases,
    integer_operations,
    layers_of,
    least_squares_range,
    quantize_file,
    ranges_of,
)
from compress.export.onnx import export_onnx
from compress.measure.macs import count_macs
from compress.methods.quantize import layer_search, step
from compress.methods.quantize.layer_search import Judge, MadeOf, choose_float_layers, make_int8
from compress.methods.quantize.settings import Settings
from compress.models.candidate import Candidate
from compress.results.schema import Machine
from compress.runtimes.onnxruntime import OnnxSession
from compress.tasks import task_of
from compress.utils.errors import UserError
from tests.export.test_export import NETWORKS, images, make
from tests.onnx_graphs import FLOAT, save
from tests.outputs import only


@pytest.fixture(scope="module", params=NETWORKS)
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Candidate, Path]:
    candidate = make(request.param)
    path = tmp_path_factory.mktemp(request.param) / "float.onnx"
    export_onnx(candidate, path)
    return candidate, path


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Path]:
    candidate = make("vgg")
    path = tmp_path_factory.mktemp("vgg") / "float.onnx"
    export_onnx(candidate, path)
    return candidate, path


def in_float(path: Path, x: np.ndarray) -> np.ndarray:
    """What an int8 file says, its rounded numbers multiplied in float: no integer kernel runs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def test_every_layer_runs_in_integers(network: tuple[Candidate, Path], tmp_path: Path) -> None:
    _, path = network
    out = tmp_path / "int8.onnx"
    quantize_file(path, out, ranges_of(path, images(8), "minmax"))
    integers, floats = integer_operations(out)
    assert floats == []
    assert len(integers) == len(layers_of(path))
    assert integer_operations(path)[0] == []  # the float file has none
    before, after = (
        only(OnnxSession(path, 1).run(images(8))),
        only(OnnxSession(out, 1).run(images(8))),
    )
    # The integers of any CPU are those that the file says, up to roundings of ties.
    assert ((in_float(out, images(8)) - after) ** 2).mean() < 0.01 * before.var()
    assert ((before - after) ** 2).mean() > 0
    # Fresh networks on noise: far noisier than trained ones on images.
    eight = tmp_path / "eight.onnx"
    quantize_file(path, eight, ranges_of(path, images(8), "minmax"), portable=False)
    assert 0 < ((before - in_float(eight, images(8))) ** 2).mean() < 0.3 * before.var()
    assert OnnxSession(out, 1).spec == OnnxSession(path, 1).spec is not None
    assert out.stat().st_size < 0.6 * path.stat().st_size
    onnx.checker.check_model(out, full_check=True)
    assert count_macs(out) == count_macs(path)


def test_layers_that_shall_stay_in_float_do(
    network: tuple[Candidate, Path], tmp_path: Path
) -> None:
    _, path = network
    layers = list(layers_of(path))
    out = tmp_path / "int8.onnx"
    ranges = ranges_of(path, images(4), "minmax")
    quantize_file(path, out, ranges, float_layers=layers[::2])
    integers, floats = integer_operations(out)
    assert len(floats) == len(layers[::2]) and len(integers) == len(layers[1::2])
    quantize_file(path, out, ranges, float_layers=layers)
    assert integer_operations(out)[0] == []
    assert {n.op_type for n in onnx.load(out).graph.node} == {
        n.op_type for n in onnx.load(path).graph.node
    }
    np.testing.assert_allclose(
        only(OnnxSession(out, 1).run(images(3))),
        only(OnnxSession(path, 1).run(images(3))),
        rtol=1e-5,
    )


@pytest.mark.parametrize("portable", [False, True])
def test_weights_are_rounded_by_channel(
    vgg: tuple[Candidate, Path], tmp_path: Path, portable: bool
) -> None:
    _, path = vgg
    out = tmp_path / "int8.onnx"
    quantize_file(path, out, ranges_of(path, images(4), "minmax"), portable=portable)
    graph = onnx.load(out).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    original = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    checked = 0
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in stored:
            continue
        quantized, scale = stored[node.input[0]], stored[node.input[1]]
        name = node.input[0].removesuffix("_quantized")
        if quantized.dtype != np.int8 or name not in original or original[name].ndim != 4:
            continue
        weight = original[name]
        limit = 64 if portable else 127
        wanted = np.abs(weight).max(axis=(1, 2, 3)) / limit
        np.testing.assert_allclose(scale, wanted, rtol=0.02)
        rounded = np.clip(np.round(weight / scale[:, None, None, None]), -limit, limit)
        assert np.abs(quantized - rounded).max() <= 1
        checked += 1
    assert checked == 13


@pytest.fixture(scope="module", params=[True, False], ids=["portable", "8 bits"])
def weights(
    request: pytest.FixtureRequest,
    vgg: tuple[Candidate, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[bool, list[np.ndarray]]:
    """Of each layer of a file (outputs x inputs, as integers), and whether it is portable."""
    _, path = vgg
    out = tmp_path_factory.mktemp("weights") / "int8.onnx"
    quantize_file(path, out, ranges_of(path, images(4), "minmax"), portable=request.param)
    graph = onnx.load(out).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    read = [stored.get(n.input[0]) for n in graph.node if n.op_type == "DequantizeLinear"]
    found = [w for w in read if w is not None and w.dtype == np.int8 and w.ndim > 1]
    assert len(found) == 16
    return request.param, [w.reshape(len(w), -1).astype(np.int64) for w in found]


def test_sums_of_two_products_fit_into_16_bits_if_portable(
    weights: tuple[bool, list[np.ndarray]],
) -> None:
    portable, layers = weights
    largest = []
    for layer in layers:
        two = np.sort(np.abs(layer), axis=1)[:, -2:].sum(axis=1)  # however the weights are paired
        largest.append(int(255 * two.max()))
    assert max(np.abs(layer).max() for layer in layers) == (64 if portable else 127)
    assert all(value <= 2**15 - 1 for value in largest) == portable


def without_vnni(weight: np.ndarray, activations: np.ndarray) -> np.ndarray:
    """As VPMADDUBSW and VPMADDWD compute: two products are added in 16 bits, saturating."""
    products = weight * activations
    pairs = np.pad(products, [(0, 0), (0, products.shape[1] % 2)]).reshape(len(weight), -1, 2)
    return pairs.sum(axis=2).clip(-(2**15), 2**15 - 1).sum(axis=1)


@pytest.mark.parametrize("weights", [True], ids=["portable"], indirect=True)
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_portable_file_is_exact_on_cpus_without_vnni(
    weights: tuple[bool, list[np.ndarray]], data: st.DataObject
) -> None:
    layer = data.draw(st.sampled_from(weights[1]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    lowest = data.draw(st.integers(0, 255))
    activations = rng.integers(lowest, 256, layer.shape[1])
    order = rng.permutation(layer.shape[1])
    exact = (layer * activations)[:, order].sum(axis=1)
    assert (without_vnni(layer[:, order], activations[order]) == exact).all()


def test_8_bit_weights_saturate_on_cpus_without_vnni(
    weights: tuple[bool, list[np.ndarray]],
) -> None:
    portable, layers = weights
    wrong = [
        (without_vnni(layer, np.full(layer.shape[1], 255)) != layer.sum(axis=1) * 255).any()
        for layer in layers
    ]
    assert any(wrong) != portable


def test_the_old_name_of_portable_is_taken() -> None:
    for old, portable in ((True, True), (False, False), (None, True)):
        given_old = Settings.model_validate({"reduce_range": old})
        assert given_old.model_dump() == Settings(portable=portable).model_dump()
    assert "reduce_range" not in Settings().model_dump()
    with pytest.raises(ValueError, match="give portable alone"):
        Settings.model_validate({"reduce_range": True, "portable": True})


@pytest.mark.parametrize(
    ("portable", "flags", "said"),
    [
        (True, [], "right on CPUs without VNNI too"),
        (True, ["avx512_vnni"], "right on CPUs without VNNI too"),
        (False, ["avx512_vnni"], "leave portable on for files that travel"),
        (False, [], "this file's 16-bit sums saturate here"),
    ],
)
def test_the_note_says_where_the_file_is_right(
    vgg: tuple[Candidate, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    portable: bool,
    flags: list[str],
    said: str,
) -> None:
    here = FakeContext.machine.model_copy(update={"cpu_flags": flags})
    monkeypatch.setattr(FakeContext, "machine", here)
    found, _ = found_with(vgg, tmp_path, monkeypatch, 2.0, lambda _: 0.0, portable=portable)
    assert said in found.report.notes[-1]


def test_ranges(vgg: tuple[Candidate, Path]) -> None:
    candidate, path = vgg
    x = images(12)
    seen: list[torch.Tensor] = []
    hook = candidate.model.features[1].register_forward_hook(lambda *a: seen.append(a[2].clone()))
    with torch.no_grad():
        candidate.model.eval()(torch.from_numpy(x))
    hook.remove()
    first = next(n for n in onnx.load(path).graph.node if n.op_type == "Conv").output[0]
    low, high = ranges_of(path, x, "minmax")[first]
    assert low == pytest.approx(float(seen[0].min()), rel=1e-4)
    assert high == pytest.approx(float(seen[0].max()), rel=1e-4)
    for method in ("percentile", "entropy", "mse"):
        inner = ranges_of(path, x, method, percentile=99.0)[first]
        assert low - 0.02 <= inner[0] <= inner[1] <= high + 0.02
    assert ranges_of(path, x, "percentile", percentile=99.0)[first][1] < high


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=4, max_size=64), st.integers(-3, 3))
def test_least_squares_range_is_the_best_of_all_shrunk_ones(counts: list[int], shift: int) -> None:
    histogram = np.asarray(counts)
    edges = np.linspace(-4, 4, len(counts) + 1) + shift
    low, high = least_squares_range(histogram, edges)
    if histogram.sum() == 0:
        assert (low, high) == (0, 0)
        return
    seen = np.flatnonzero(histogram)
    full = min(0.0, edges[seen[0]]), max(0.0, edges[seen[-1] + 1])
    assert full[0] <= low <= 0 <= high <= full[1]

    def error(share: float) -> float:
        bottom, top = share * full[0], share * full[1]
        values = (edges[:-1] + edges[1:]) / 2
        step = (top - bottom) / 255
        nearest = bottom + np.clip(np.round((values - bottom) / step), 0, 255) * step
        return float((histogram * (values - nearest) ** 2).sum())

    found = (high - low) / (full[1] - full[0])
    assert error(found) <= min(error(s) for s in np.linspace(0.2, 1, 81)) * (1 + 1e-6) + 1e-9


def test_bias_correction_keeps_the_mean(tmp_path: Path) -> None:
    """Without padding the mean output of a rounded layer becomes the float layer's."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 8, 1)
    x = torch.rand(16, 4, 6, 6) + 0.5
    path, out = tmp_path / "layer.onnx", tmp_path / "corrected.onnx"
    torch.onnx.export(layer, (x,), path, dynamo=True, verbose=False)
    correct_biases(path, out, bias_shifts(path, x.numpy(), largest=3))
    graph = onnx.load(out).graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    tensors = dict(zip("wb", (values[x] for x in graph.node[0].input[1:]), strict=True))
    scale = np.abs(tensors["w"]).max(axis=(1, 2, 3), keepdims=True) / 3
    rounded = np.round(tensors["w"] / scale) * scale
    got = np.einsum("oi,nihw->nohw", rounded[:, :, 0, 0], x.numpy())
    got = got.mean(axis=(0, 2, 3)) + tensors["b"]
    wanted = layer(x).detach().numpy().mean(axis=(0, 2, 3))
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_bias_correction_knows_convolutions_along_a_row(tmp_path: Path) -> None:
    """Where a channel is the same everywhere its mean is kept, whatever the kernel's size."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 2, 3)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "shape"], ["rows"]),
        onnx.helper.make_node("Conv", ["rows", "weight"], ["y"], "layer", group=2),
    ]
    path = save(
        tmp_path / "layer.onnx", nodes, {"x": (FLOAT, ("n", 4, 6, 6))}, {"y": (FLOAT, 3)},
        {"weight": weight, "shape": np.array([0, 4, 36])},
    )  # fmt: skip
    x = np.broadcast_to(rng.random((16, 4, 1, 1), np.float32) + 0.5, (16, 4, 6, 6))
    shifts = bias_shifts(path, x, largest=3)
    assert np.abs(shifts["layer"]).max() > 0.1
    out = tmp_path / "corrected.onnx"
    correct_biases(path, out, shifts)
    model = onnx.load(out)
    scale = np.abs(weight).max(axis=(1, 2), keepdims=True) / 3
    rounded = numpy_helper.from_array(np.round(weight / scale) * scale, "weight")
    model.graph.initializer[0].CopyFrom(rounded)
    onnx.save(model, out)
    wanted, got = (only(OnnxSession(file, 1).run(x)).mean((0, 2)) for file in (path, out))
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_layers_in_float_keep_their_biases(vgg: tuple[Candidate, Path], tmp_path: Path) -> None:
    """Their weights are not rounded, so that nothing is to be corrected."""
    candidate, path = vgg
    shifts = bias_shifts(path, images(4), largest=3)
    first, second, *_ = shifts
    made_of = MadeOf(
        candidate,
        path,
        ranges=ranges_of(path, images(4), "minmax"),
        judge=Judge.of(path, images(4), task_of(candidate.spec), lambda _: [True] * 4, 1),
        keep_float=lambda _: [],
        max_drop=1.0,
        portable=True,
        shifts=shifts,
    )
    biases = []
    for file in (path, made_of.write(tmp_path / "int8.onnx", {first})):
        graph = onnx.load(file).graph
        values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        nodes = {node.name: node for node in graph.node}
        made = {o: n for n in graph.node for o in n.output}
        for node in (first, second):
            name = nodes[node].input[2]
            scale = None if name in values else [values[x] for x in made[name].input]
            biases.append(values[name] if scale is None else scale[0] * scale[1])
    kept, corrected = biases[0], biases[1] - shifts[second]
    np.testing.assert_array_equal(biases[2], kept)
    assert np.abs(shifts[second]).max() > 1e-3
    np.testing.assert_allclose(biases[3], corrected, atol=1e-4)


def test_a_network_that_is_to_be_in_float_altogether_is_refused(
    vgg: tuple[Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [name for name, _ in vgg[0].model.named_modules()]
    with pytest.raises(UserError, match="float_layers names every layer"):
        found_with(vgg, tmp_path, monkeypatch, 2.0, keep_float=every)


@pytest.mark.parametrize(("count", "few"), [(100, True), (130, True), (256, False), (700, False)])
def test_what_judges_is_not_a_handful(count: int, few: bool) -> None:
    assert step._too_few(count, Settings()) == few


class FakeTimes:
    """Every layer gains in int8."""

    def seconds(self, chain: Any, int8: bool = False) -> float:
        return 1.0 if int8 else 2.0


class FakeContext:
    threads = 1
    machine = Machine(
        cpu="x", cpu_flags=["avx512_vnni"], cores=1, memory_bytes=1, system="Linux x86_64",
        python="3", versions={},
    )  # fmt: skip

    class progress:
        @staticmethod
        def note(text: str) -> None: ...
        @staticmethod
        def advance(done: int, total: int) -> None: ...

    def layer_times(self) -> FakeTimes:
        return FakeTimes()


def found_with(
    vgg: tuple[Candidate, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    drop: Callable[[set[str]], float] | None = None,
    max_drop: float = 0.01,
    keep_float: Collection[str] = (),
    portable: bool = True,
) -> tuple[layer_search.Found, Path]:
    """The file where every one is `ratio` times as fast and loses what `drop` says."""
    candidate, path = vgg
    monkeypatch.setattr(
        layer_search,
        "_faster",
        lambda _, files, __: dict.fromkeys(files, ratio),
    )
    if drop is not None:
        monkeypatch.setattr(Judge, "drop", lambda _, file: drop(set(_kept_in_int8(file))))
    out = tmp_path / "int8.onnx"
    context: Any = FakeContext()
    made_of = MadeOf(
        candidate,
        path,
        ranges=ranges_of(path, images(4), "minmax"),
        judge=Judge.of(
            path,
            images(8),
            task_of(candidate.spec),
            lambda outputs: (outputs["logits"].argmax(1) == 0).tolist(),
            1,
        ),
        keep_float=lambda names: [n for n in names if n in keep_float],
        max_drop=max_drop,
        portable=portable,
    )
    floats, _ = choose_float_layers(made_of, tmp_path, context)
    found = make_int8(made_of, floats, out, context)
    assert {p.name for p in tmp_path.iterdir()} == {"int8.onnx"}
    return found, out


def _kept_in_int8(file: Path) -> list[str]:
    """Modules whose node reads a dequantized weight."""
    graph = onnx.load(file).graph
    produced = {o: n for n in graph.node for o in n.output}
    return [
        produced[n.input[1]].input[0].removesuffix("_quantized").removesuffix(".weight")
        for n in graph.node
        if n.op_type in ("Conv", "Gemm") and n.input[1] in produced
    ]


def test_a_fast_file_is_kept(
    vgg: tuple[Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = found_with(vgg, tmp_path, monkeypatch, 2.0, lambda _: 0.0)
    assert found.dropped is None
    assert all(d.kept for d in found.report.decisions)
    assert len(integer_operations(out)[0]) == len(found.report.decisions) == 16


def test_a_slow_file_is_dropped_with_the_reason(
    vgg: tuple[Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = found_with(vgg, tmp_path, monkeypatch, 0.8, lambda _: 0.0)
    assert found.dropped and "0.80 times as fast" in found.dropped
    assert out.is_file()  # measured and shown all the same
    found, _ = found_with(vgg, tmp_path, monkeypatch, 1.01, lambda _: 0.0)
    assert found.dropped is None
    assert any("all that int8 gains is size" in note for note in found.report.notes)


def test_the_layer_that_costs_accuracy_goes_back_to_float(
    vgg: tuple[Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    culprit = "features.10"
    monkeypatch.setattr(
        Judge, "error", lambda _, file: 1.0 if culprit in _kept_in_int8(file) else 0.1
    )
    found, _ = found_with(
        vgg, tmp_path, monkeypatch, 2.0, lambda int8: 0.3 if culprit in int8 else 0.0
    )
    assert [d.layer for d in found.report.decisions if not d.kept] == [culprit]
    assert found.dropped is None


def test_when_nothing_helps_the_reason_is_said(
    vgg: tuple[Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "error", lambda *_: 1.0)
    found, _ = found_with(vgg, tmp_path, monkeypatch, 2.0, lambda int8: 0.3 if int8 else 0.0)
    assert found.dropped and "No layer is left in int8" in found.dropped


def test_layers_named_by_the_user_stay_in_float(
    vgg: tuple[Candidate, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = found_with(
        vgg, tmp_path, monkeypatch, 2.0, lambda _: 0.0, keep_float=("features.0",)
    )
    assert [(d.layer, d.reason) for d in found.report.decisions if not d.kept] == [
        ("features.0", "float: asked for")
    ]
    assert len(integer_operations(out)[1]) == 1


def test_a_file_with_integers_is_not_mistaken_for_float() -> None:
    assert "QLinearConv" in INTEGER and "Conv" not in INTEGER


@pytest.mark.parametrize(("portable", "largest"), [(True, 63), (False, 127)])
def test_simulated_int8_rounds_as_deployed_and_leaves_the_network_alone(
    portable: bool, largest: int
) -> None:
    from compress.methods.quantize.fake_quantization import simulate_int8

    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 30 * 30, 4),
    )  # fmt: skip
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    x = images(4)
    simulated = simulate_int8(plain, x, portable)
    after = simulated.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)

    def rounded(value: torch.Tensor, end: torch.Tensor, most: int) -> torch.Tensor:
        return torch.round(value * most / end).clamp(-most, most) * end / most

    weight, inputs = before["0.weight"], torch.from_numpy(x)
    wanted = torch.nn.functional.conv2d(
        rounded(inputs, inputs.abs().max(), 127),
        rounded(weight, weight.abs().amax((1, 2, 3), keepdim=True), largest),
        before["0.bias"],
    )
    got = simulated[0](inputs)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    got.sum().backward()
    gradient = dict(simulated.named_parameters())["0.weight"].grad
    assert gradient is not None and gradient.abs().min() > 0  # rounding is ignored backwards
