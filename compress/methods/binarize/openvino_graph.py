"""Binary networks as OpenVINO graphs: popcount kernels, proven to run and to be right.

The network is exported as any other, with its signs as constants of ±1. OpenVINO reads that file;
every convolution whose image is `Select(x > threshold, 1, -1)` and whose weights are all ±1 then
becomes `BinaryConvolution`. Known traps of OpenVINO 2026.4, silent but the last two, each checked
here or refused at plan time: bits are packed least significant first (its specification says
otherwise); input channels that are no multiple of 8, and filters wider than a stride of 3 or 5,
give wrong sums; a block that only a binary layer reads has its shortcut added to packed bits;
`ov.Tensor` shares the memory of the array it is made of; pads wider than the output or than 4
columns (2 without AVX-512), and a free batch, height or width, do not compile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from openvino import opset1
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.export.int8 import quantize_model, ranges_of
from compress.measure.layer_times import LayerShape
from compress.models.binary_layers import CHANNELS, BinaryConv2d, binary_layers
from compress.models.candidate import Candidate
from compress.runtimes.openvino_ir import read_ir, save_ir
from compress.runtimes.outputs import in_order

KERNEL = "BinaryConvolution"
# Of the whole network's outputs, as a share of their deviation. Layers are exact to the last bit,
# but a value within rounding of a threshold may fall on its other side, and turn others after it:
# that moved outputs by 0.015; what was wrong in a graph moved them by more than 2.
TURNED_SIGNS = 0.05


@dataclass(frozen=True)
class Proof:
    """What was checked on this machine; `failure` says in a sentence what did not hold."""

    layers: int  # binary convolutions, each run by a popcount kernel, each exact bit for bit
    kernels: tuple[str, ...]  # the kernels' names as the runtime reports them
    difference: float  # of the whole network's outputs, as a fraction of their standard deviation
    failure: str | None = None


def pack_bits(weights: np.ndarray) -> np.ndarray:
    """Pack weights into uint8: a bit each, set where positive, least significant bit first."""
    return np.packbits(weights.reshape(-1) > 0, bitorder="little")


def binary_convolution(
    x: ov.Output,
    threshold: np.ndarray,
    weights: np.ndarray,
    strides: Sequence[int],
    pads_begin: Sequence[int],
    pads_end: Sequence[int],
) -> ov.Node:
    """Convolve the signs of x - threshold with the signs of `weights`, in popcounts.

    Padding adds zeros, a third value beside the signs, as in the network.

    Args:
        x: float32 (n, channels, height, width).
        threshold: float32, one a channel.
        weights: (out, channels, height, width); only the signs count.
    """
    limit = opset1.constant(threshold.reshape(1, -1, 1, 1).astype(np.float32))
    zero, one = opset1.constant(np.float32(0)), opset1.constant(np.float32(1))
    # Two levels with equal limits: one where x > limit, else zero; handed to the kernel as bits.
    bits = opset1.fake_quantize(x, limit, limit, zero, one, 2)
    # Not shared: the constant would go on reading an array that nobody keeps.
    tensor = ov.Tensor(pack_bits(weights), ov.Shape(weights.shape), ov.Type.u1)
    filters = ov.op.Constant(tensor, shared_memory=False)
    return opset1.binary_convolution(
        bits, filters, strides, pads_begin, pads_end, [1, 1], "xnor-popcount", 0.0
    )


def with_popcount(model: ov.Model) -> list[str]:
    """Replace, in place, every convolution of signs by signs.

    Returns:
        The names of the operations that took their places.
    """
    replaced = []
    for node in model.get_ordered_ops():
        found = _signs_of(node) if node.get_type_name() == "Convolution" else None
        if found is None:
            continue
        told = node.get_attributes()
        if not _is_right(found[2].shape, told):
            continue
        popcount = binary_convolution(*found, told["strides"], told["pads_begin"], told["pads_end"])
        popcount.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(popcount.output(0))
        replaced.append(popcount.get_friendly_name())
    _own_slopes(model)
    model.validate_nodes_and_infer_types()
    return replaced


def _signs_of(node: ov.Node) -> tuple[ov.Output, np.ndarray, np.ndarray] | None:
    """Return input, thresholds and weights of a convolution of signs by signs; else None."""
    select, filters = (node.input_value(i).get_node() for i in (0, 1))
    weights = _constant(filters)
    if weights is None or not (np.abs(weights) == 1).all() or select.get_type_name() != "Select":
        return None
    greater = select.input_value(0).get_node()
    above, below = (_constant(select.input_value(i).get_node()) for i in (1, 2))
    if greater.get_type_name() != "Greater" or above is None or below is None:
        return None
    threshold = _constant(greater.input_value(1).get_node())
    if threshold is None or not ((above == 1).all() and (below == -1).all()):
        return None
    channels = (1, weights.shape[1], 1, 1)
    if threshold.size != 1 and (1,) * (4 - threshold.ndim) + threshold.shape != channels:
        return None
    return greater.input_value(0), np.broadcast_to(threshold.reshape(-1), channels[1]), weights


def _is_right(filters: tuple[int, ...], told: dict[str, Any]) -> bool:
    """Return whether the kernel computes what a convolution of such filters and attributes does."""
    if told["auto_pad"] != "explicit" or list(told["dilations"]) != [1, 1] or filters[1] % CHANNELS:
        return False
    # Wider than a stride that is no power of two: an index overflows, outer columns are left out.
    stride = int(told["strides"][1])
    return filters[3] <= stride or stride & (stride - 1) == 0


def _constant(node: ov.Node) -> np.ndarray | None:
    return np.array(node.data) if node.get_type_name() == "Constant" else None


def _own_slopes(model: ov.Model) -> None:
    """Give each PReLU a slope of its own: one that two share keeps both out of the kernels."""
    seen: set[str] = set()
    for node in model.get_ops():
        if node.get_type_name() != "PRelu":
            continue
        slope = node.input_value(1).get_node()
        if slope.get_friendly_name() in seen and (value := _constant(slope)) is not None:
            node.input(1).replace_source_output(opset1.constant(value).output(0))
        seen.add(slope.get_friendly_name())


def kernels_of(model: ov.Model, threads: int) -> dict[str, str]:
    """Return for each binary convolution, by name, the kernel that runs it here.

    Args:
        model: with a fixed batch.
    """
    found = {}
    for operation in _compiled(model, threads).get_runtime_model().get_ops():
        told = operation.get_rt_info()
        if _text(told, "layerType") == KERNEL:
            # What was fused into the kernel is named after it, with commas.
            name = _text(told, "originalLayersNames").split(",")[0]
            found[name] = _text(told, "primitiveType")
    return found


def _compiled(model: ov.Model, threads: int) -> ov.CompiledModel:
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    return ov.Core().compile_model(model, "CPU", config)


def _text(told: Any, key: str) -> str:
    return str(told[key].astype(str)) if key in told else ""


def prove(candidate: Candidate, path: Path, images: np.ndarray, threads: int) -> Proof:
    """Check a graph that was made of the network, on this machine.

    Every binary convolution must be run by a compiled popcount kernel, must give bit for bit what
    the network's gives for the same real inputs, and the whole must give what the network gives.

    Args:
        path: ONNX file with the network's real parts in float32.
        images: float32 (n, channels, height, width), real ones, normalised.
    """
    layers = binary_layers(candidate.model)
    model = ov.Core().read_model(path)
    replaced = with_popcount(model)
    if len(replaced) != len(layers):
        return Proof(0, (), np.inf, f"{len(layers) - len(replaced)} binary layers were not found")
    try:
        model.reshape([len(images), *images.shape[1:]])
        kernels = kernels_of(model, threads)
        slow = [name for name in replaced if not kernels.get(name, "").startswith("jit")]
        if slow:
            return Proof(0, (), np.inf, f"no popcount kernel runs {', '.join(slow[:3])}")
        wrong = _wrong_layers(candidate.model, images[:1], threads)
        if wrong:
            return Proof(0, (), np.inf, f"the kernel gives wrong sums in {', '.join(wrong[:3])}")
        with torch.inference_mode():
            given = in_order(candidate.model.eval()(torch.from_numpy(images)))
        difference = _difference([x.numpy() for x in given], model, images, threads)
    except RuntimeError as error:
        return Proof(0, (), np.inf, f"OpenVINO cannot run it here ({_last_line(error)})")
    failure = None
    if difference > TURNED_SIGNS:
        failure = f"its outputs differ from the network's by {difference:.1%} of their deviation"
    return Proof(len(replaced), tuple(sorted(set(kernels.values()))), difference, failure)


def _wrong_layers(network: nn.Module, images: np.ndarray, threads: int) -> list[str]:
    """Return the binary layers whose kernel does not give what torch gives, to the last bit."""
    seen = _inputs_of_layers(network, torch.from_numpy(images))
    wrong = []
    for name, layer in binary_layers(network).items():
        x = seen[name].contiguous()
        if not np.array_equal(_popcounts(layer, x.numpy(), threads), _sums(layer, x)):
            wrong.append(name)
    return wrong


def _inputs_of_layers(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what reaches each binary layer, by name."""
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.__setitem__(name, inputs[0].clone())
        )
        for name, layer in binary_layers(network).items()
    ]
    with torch.inference_mode():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return seen


def _sums(layer: BinaryConv2d, x: Tensor) -> np.ndarray:
    """Return sums of products of signs: whole numbers below 2^24, exact in float32 in any order."""
    one = torch.ones(())
    signs = torch.where(x > layer.threshold[:, None, None], one, -one)
    weights = torch.where(layer.weight > 0, one, -one)
    with torch.inference_mode():
        return np.asarray(F.conv2d(signs, weights, None, layer.stride, layer.padding).numpy())


def _popcounts(layer: BinaryConv2d, x: np.ndarray, threads: int) -> np.ndarray:
    entry = opset1.parameter(x.shape, np.float32)
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    threshold, weights = (p.detach().numpy() for p in (layer.threshold, layer.weight))
    last = binary_convolution(entry.output(0), threshold, weights, stride, padding, padding)
    model = ov.Model([opset1.result(last)], [entry])
    return np.array(_compiled(model, threads)(x)[0])


def _difference(
    expected: Sequence[np.ndarray], model: ov.Model, images: np.ndarray, threads: int
) -> float:
    """Return the images' median of the largest difference, as a fraction of the deviation.

    Of several outputs, that of the one that is furthest off. Not the largest of all images: where a
    value lies within rounding of a threshold its sign may turn, and what follows is no error.
    """
    model.reshape([len(images), *images.shape[1:]])
    given = _compiled(model, threads)(images)
    return max(_apart(np.asarray(given[i]), output) for i, output in enumerate(expected))


def _apart(got: np.ndarray, expected: np.ndarray) -> float:
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    off = np.abs(expected - got).reshape(len(got), -1).max(1)
    return float(np.median(off) / (expected.std() + 1e-12))


def _last_line(error: Exception) -> str:
    """Return the last line: OpenVINO first says where in its source it failed, and last why."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), repr(error))


def int8_rest(simulated: Path, images: np.ndarray) -> onnx.ModelProto:
    """Put the network's real layers in int8, right on every CPU, and change nothing else.

    Args:
        simulated: ONNX file with signs as ±1.
        images: float32 (n, channels, height, width), on which ranges are found.
    """
    proto = onnx.load(simulated)
    ranges = ranges_of(simulated, images, "mse")
    return quantize_model(proto, ranges, _sign_layers(proto), layers_only=True)


def write_ir(proto: onnx.ModelProto, path: Path, spec: InputSpec) -> None:
    """Write the deployed file of a network whose signs are exported as ±1."""
    model = ov.Core().read_model(proto.SerializeToString())
    with_popcount(model)
    save_ir(model, path, spec)


def difference_to_onnxruntime(
    proto: onnx.ModelProto, path: Path, images: np.ndarray, threads: int
) -> float:
    """Return how far the deployed file is from the graph it was made of, in another runtime.

    As a fraction of the outputs' standard deviation; the median over the images.
    """
    options = onnxruntime.SessionOptions()
    # As written: its optimizer would round real layers between int8 ones, too.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {session.get_inputs()[0].name: images})
    return _difference(expected, read_ir(path), images, threads)


def _sign_layers(proto: onnx.ModelProto) -> list[str]:
    """Return names of the convolutions whose weights are signs."""
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type == "Conv" and (np.abs(weights.get(node.input[1], 0)) == 1).all()
    ]


def binary_shapes(candidate: Candidate) -> dict[str, LayerShape]:
    """Return the binary layers' shapes at batch 1, by name."""
    blank = torch.zeros(1, *candidate.spec.shape)
    seen = _inputs_of_layers(candidate.model, blank)
    return {
        name: LayerShape(
            in_channels=layer.weight.shape[1],
            out_channels=layer.weight.shape[0],
            kernel=(layer.weight.shape[2], layer.weight.shape[3]),
            stride=(layer.stride, layer.stride),
            padding=(layer.padding, layer.padding),
            input_size=(seen[name].shape[2], seen[name].shape[3]),
        )
        for name, layer in binary_layers(candidate.model).items()
    }
