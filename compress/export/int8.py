"""Static int8 quantization of an ONNX file: ranges, the file, and proof of what runs in int8.

Weights are int8, symmetric, one scale a channel; activations uint8 with a zero point, one scale a
tensor. onnxruntime's quantizer writes the file as float operations between QuantizeLinear and
DequantizeLinear (QDQ), which its optimizer turns into integer operations when it loads it.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
)
from onnxruntime.quantization.calibrate import (
    EntropyCalibrater,
    HistogramCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
    TensorData,
    TensorsData,
)
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError
from compress.utils.files import atomic

Ranges = dict[str, tuple[float, float]]  # lowest and highest value of each tensor
Method = Literal["minmax", "percentile", "entropy", "mse"]

LAYERS = ("Conv", "Gemm", "MatMul")
INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger",
           "MatMulIntegerToFloat", "DynamicQuantizeMatMul")  # fmt: skip
LOWEST = "lowest_float"
# Operations that onnxruntime moves a QuantizeLinear across, towards the layer before.
PASSED = ("Relu", "Clip", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
CHUNK = 4  # images whose activations are in memory at once
BINS = 2048


def layers_of(path: Path) -> dict[str, str]:
    """Names and kinds of the nodes that int8 can make faster, in the order of execution."""
    return {n.name: n.op_type for n in onnx.load(path).graph.node if n.op_type in LAYERS}


def ranges_of(
    path: Path,
    images: np.ndarray,
    method: Method,
    percentile: float = 99.99,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ranges:
    """Ranges of all activations on `images`, float32 (n, channels, height, width), prepared.

    minmax: all that was seen · percentile: without the outermost values · entropy: the least
    information lost (Migacz 2017) · mse: the least squared error between a value and its int8.
    """
    images = OnnxSession(path, threads=1).takes.fed(images)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        augmented = str(Path(folder) / "augmented.onnx")
        types = _quantizable()
        if method == "minmax":
            calibrater = MinMaxCalibrater(path, types, augmented)
        elif method == "entropy":
            calibrater = EntropyCalibrater(path, types, augmented)
        else:
            calibrater = PercentileCalibrater(
                path, types, augmented, num_bins=BINS, percentile=percentile
            )
        calibrater.augment_graph()
        calibrater.create_inference_session()
        entry = calibrater.infer_session.get_inputs()[0].name
        for start in range(0, len(images), CHUNK):
            calibrater.collect_data(_Reader(entry, images[start : start + CHUNK]))
            progress(min(start + CHUNK, len(images)), len(images))
        if method == "mse":
            assert isinstance(calibrater, HistogramCalibrater)
            histograms = calibrater.collector.get_histogram_dict()
            return {name: least_squares_range(h[0], h[1]) for name, h in histograms.items()}
        data = calibrater.compute_data()
        return {
            name: (
                float(np.min(data[name].range_value[0])),
                float(np.max(data[name].range_value[1])),
            )
            for name in data.keys()  # noqa: SIM118 (no plain mapping)
        }


class _Reader(CalibrationDataReader):
    def __init__(self, entry: str, images: np.ndarray) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter({entry: p[None]} for p in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def least_squares_range(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """The range, shrunk towards zero, whose 256 levels are nearest to the values of a histogram."""
    seen = np.flatnonzero(counts)
    if len(seen) == 0:
        return 0.0, 0.0
    centres = (edges[:-1] + edges[1:]) / 2
    lowest, highest = min(0.0, float(edges[seen[0]])), max(0.0, float(edges[seen[-1] + 1]))
    weights, values = counts[seen], centres[seen]
    best, least = (lowest, highest), np.inf
    for share in np.linspace(1.0, 0.2, 81):
        low, high = share * lowest, share * highest
        step = (high - low) / 255
        if step == 0:
            break
        levels = np.clip(np.round((values - low) / step), 0, 255)
        error = float((weights * (values - (low + levels * step)) ** 2).sum())
        if error < least:
            best, least = (low, high), error
    return best


def largest_weight(portable: bool) -> int:
    """The integer that a channel's largest weight becomes."""
    return 64 if portable else 127


def quantize_file(
    path: Path,
    out: Path,
    ranges: Ranges,
    float_layers: Collection[str] = (),
    portable: bool = True,
) -> None:
    """Writes the int8 form of an ONNX file; see `quantize_model`."""
    quantized = quantize_model(onnx.load(path), ranges, float_layers, portable)
    with atomic(out) as temporary:
        onnx.save(quantized, temporary)


def quantize_model(
    model: onnx.ModelProto,
    ranges: Ranges,
    float_layers: Collection[str] = (),
    portable: bool = True,
    layers_only: bool = False,
) -> onnx.ModelProto:
    """The int8 form of a float model, its metadata kept.

    Args:
        float_layers: names of nodes that stay in float.
        portable: 7 bits for weights. CPUs without VNNI add two products in 16 bits, where those of
            8-bit weights overflow.
        layers_only: what layers give stays in float, and so does everything between them.

    Raises:
        UserError: a structure that onnxruntime's quantizer does not know.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    names = [n.name for n in model.graph.node]
    stay = set(float_layers) | _alone(model, float_layers)
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=portable,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[name for name in names if name not in stay],
        nodes_to_exclude=sorted(stay),
        op_types_to_quantize=list(LAYERS) if layers_only else _quantizable(),
        extra_options={
            "WeightSymmetric": True,
            "ActivationSymmetric": False,
            "OpTypesToExcludeOutputQuantization": list(LAYERS) if layers_only else [],
        },
    )
    try:
        quantizer.quantize_model()
    except (ValueError, NotImplementedError) as error:  # of structures that it does not know
        raise UserError(
            f"onnxruntime's quantizer cannot make int8 of this network: {error}. Leave what it "
            "stumbles over in float (float_layers), or leave int8 out."
        ) from error
    quantized: onnx.ModelProto = quantizer.model.model
    _keep_in_float(quantized.graph, stay)
    quantizer.model.topological_sort()
    del quantized.metadata_props[:]
    onnx.helper.set_model_props(quantized, metadata)
    return quantized


def _keep_in_float(graph: onnx.GraphProto, layers: Collection[str]) -> None:
    """Keeps onnxruntime from making integers of float layers between integer ones.

    Its optimizer rounds the weights of any convolution or Gemm that reads a DequantizeLinear and
    feeds a QuantizeLinear (through a Relu, say), asked for or not. A maximum with the lowest
    float, which changes nothing, hides the QuantizeLinear.
    """
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for value in node.input:
            consumers.setdefault(value, []).append(node)
    hidden = []
    for layer in graph.node:
        if layer.name not in layers or layer.op_type not in LAYERS:
            continue
        value = layer.output[0]
        while len(after := consumers.get(value, [])) == 1 and after[0].op_type in PASSED:
            value = after[0].output[0]
        quantizers = [n for n in after if n.op_type == "QuantizeLinear"]
        if quantizers:
            name = f"{value}_in_float"
            hidden.append(onnx.helper.make_node("Max", [value, LOWEST], [name], name))
            for node in quantizers:
                node.input[0] = name
    if hidden:
        lowest = np.asarray(np.finfo(np.float32).min, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(lowest, LOWEST))
        graph.node.extend(hidden)


def _quantizable() -> list[str]:
    return sorted(set(QDQRegistry) | set(QLinearOpsRegistry))


def _alone(model: onnx.ModelProto, float_layers: Collection[str]) -> set[str]:
    """Nodes between layers that stay in float: int8 there would only convert to and fro.

    A pooling, activation or sum is quantized when one of its neighbours along the graph is a
    quantized layer; with none it stays in float.
    """
    nodes = list(model.graph.node)
    producer = {o: n for n in nodes for o in n.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for value in node.input:
            consumers.setdefault(value, []).append(node)
    layers = {n.name for n in nodes if n.op_type in LAYERS}
    stay: set[str] = set()
    for node in nodes:
        if node.name in layers:
            continue
        near = _reached(node, producer, consumers, layers)
        if near and all(name in float_layers for name in near):
            stay.add(node.name)
    return stay


def _reached(
    start: onnx.NodeProto,
    producer: dict[str, onnx.NodeProto],
    consumers: dict[str, list[onnx.NodeProto]],
    layers: set[str],
) -> set[str]:
    """The layers next to a node: through other operations upwards and downwards."""
    found: set[str] = set()
    for upwards in (True, False):
        queue, seen = [start], {start.name}
        while queue:
            node = queue.pop()
            if upwards:
                following = [producer[v] for v in node.input if v in producer]
            else:
                following = [c for v in node.output for c in consumers.get(v, [])]
            for other in following:
                if other.name in layers:
                    found.add(other.name)
                elif other.name not in seen:
                    seen.add(other.name)
                    queue.append(other)
    return found


def bias_shifts(path: Path, images: np.ndarray, largest: int) -> dict[str, np.ndarray]:
    """Return what rounding each layer's weights adds to its outputs on average, by its node.

    Bias correction (Nagel et al. 2019, arXiv:1906.04721) takes it off the bias: b - (W_q - W) E[x],
    with the layer's mean input measured on `images`. For convolutions; padding is left out of
    account.

    Args:
        largest: that a rounded weight can be; see `largest_weight`.
    """
    model = onnx.load(path)
    weights = {t.name: t for t in model.graph.initializer}
    nodes = [
        n
        for n in model.graph.node
        if n.op_type == "Conv"
        and n.input[1] in weights
        and (len(n.input) == 2 or n.input[2] in weights)
    ]
    fed = OnnxSession(path, threads=1).takes.fed(images)
    means = _channel_means(model, sorted({n.input[0] for n in nodes}), fed)
    found = {}
    for node in nodes:
        weight = numpy_helper.to_array(weights[node.input[1]])
        scale = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True) / largest
        rounded = np.round(weight / np.maximum(scale, 1e-30)) * scale
        shift = (rounded - weight).sum(axis=tuple(range(2, weight.ndim)))  # (out, in / groups)
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        mean = means[node.input[0]].reshape(groups, -1)
        grouped = shift.reshape(groups, -1, shift.shape[1])
        found[node.name] = np.einsum("goi,gi->go", grouped, mean).reshape(-1).astype(np.float32)
    return found


def correct_biases(path: Path, out: Path, shifts: Mapping[str, np.ndarray]) -> None:
    """Take shifts off the biases of these nodes; those of others stay as they are."""
    model = onnx.load(path)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.name not in shifts:
            continue
        shift = shifts[node.name]
        bias = weights[node.input[2]] if len(node.input) > 2 else np.zeros_like(shift)
        del node.input[2:]
        node.input.append(f"{node.name}.corrected_bias")  # its own: others may have shared it
        model.graph.initializer.append(
            numpy_helper.from_array((bias - shift).astype(np.float32), node.input[2])
        )
    with atomic(out) as temporary:
        onnx.save(model, temporary)


def _channel_means(
    model: onnx.ModelProto, tensors: Sequence[str], images: np.ndarray
) -> dict[str, np.ndarray]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    entry = probe.graph.input[0].name
    wanted = [t for t in tensors if t != entry]
    if not wanted:
        return {entry: images.mean(axis=(0, 2, 3))} if tensors else {}
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(t) for t in wanted)
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    sums: dict[str, np.ndarray] = {}
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        found = dict(zip(wanted, session.run(None, {entry: chunk}), strict=True)) | {entry: chunk}
        for name in tensors:
            maps = np.asarray(found[name])
            total = maps.mean(axis=tuple(range(2, maps.ndim))).sum(axis=0)
            sums[name] = sums.get(name, 0) + total / len(images)
    return sums


def integer_operations(path: Path) -> tuple[list[str], list[str]]:
    """What onnxruntime really runs on this machine: (operations in int8, layers left in float).

    Read from the graph that its optimizer makes of the file, with every layer it still computes in
    float named.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(optimized).graph
    integers = [n.name for n in graph.node if n.op_type in INTEGER]
    floats = [n.name for n in graph.node if n.op_type in (*LAYERS, "FusedConv", "FusedGemm")]
    return integers, floats
