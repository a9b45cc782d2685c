"""What a layer costs in OpenVINO on this machine: in float32, in int8, and as popcounts of signs.

Calls are timed from outside. The runtime's profile would not do: it cuts every node's time to whole
microseconds, of which a small binary layer takes 8, and gives means over all runs, which a single
disturbance moves.
"""

import time
from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import numpy as np
import openvino as ov
from openvino import opset1, opset8

from compress.measure.layer_times import LayerShape
from compress.methods.binarize.openvino_graph import binary_convolution
from compress.models.binary_layers import CHANNELS
from compress.utils.alone import TIMING, alone_on_machine

Kind = Literal["float32", "int8", "binary"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What the runtime's own graph must say of a layer of each kind.
RUNS_AS = {
    "float32": ("Convolution", ("f32",)),
    "int8": ("Convolution", ("u8", "i8")),
    "binary": ("BinaryConvolution", ("u1",)),
}
ROUNDS, LEAST_S = 15, 0.1  # timed calls of each kind, and their least time together
WORK, MOST_COPIES = 1_000_000_000, 32  # multiply-accumulates of one call
LEVELS = 256
# Where the runtime is at its fastest: (channels, height and width) of 3 x 3 layers.
LARGE = ((256, 28), (256, 14), (512, 28), (512, 14))


def layer_seconds(
    shapes: Sequence[LayerShape], threads: int, kinds: Sequence[Kind] = KINDS
) -> list[dict[Kind, float]]:
    """Return for each shape the median seconds at batch 1, by kind; see `layer_samples`."""
    samples = {shape: layer_samples(shape, threads, kinds) for shape in dict.fromkeys(shapes)}
    return [{k: float(np.median(s)) for k, s in samples[shape].items()} for shape in shapes]


@alone_on_machine(TIMING)
def layer_samples(
    shape: LayerShape, threads: int, kinds: Sequence[Kind] = KINDS
) -> dict[Kind, list[float]]:
    """Return seconds of the layer, by kind, the i-th of all kinds from one interleaved round.

    A call runs several copies of the layer, each with weights of its own as a network's layers
    have, on one map that lies channels last as inside a network: nothing is reordered. That the
    activations become int8 or signs is counted for each copy, since a network pays for it; where
    the layer before rounds to int8 on its way out it pays less (up to 7 % of the int8 layer here).
    The call itself and reading a pixel of each copy's output, lest it be left out, add under
    a microsecond a copy.

    Raises:
        ValueError: no plain convolution; input channels that the popcount kernel cannot take.
        RuntimeError: OpenVINO runs the layer as another kind than asked.
    """
    _check(shape, kinds)
    copies = _copies(shape)
    requests = {kind: _request(shape, kind, copies, threads) for kind in kinds}
    samples: dict[Kind, list[float]] = {kind: [] for kind in kinds}
    ends = time.perf_counter() + LEAST_S
    while len(samples[kinds[0]]) < ROUNDS or time.perf_counter() < ends:
        for kind, request in requests.items():
            request.infer()  # untimed: brings its weights back, and the threads to it
            started = time.perf_counter()
            request.infer()
            samples[kind].append((time.perf_counter() - started) / copies)
    return samples


@cache
def limits(threads: int, kinds: tuple[Kind, ...] = KINDS) -> dict[Kind, float]:
    """Measure multiply-accumulates a second, by kind: the highest rate of any call on large layers.

    That is what this runtime reached on this machine just now, not what a data sheet promises; it
    includes what `layer_samples` includes.
    """
    shapes = [
        LayerShape(channels, channels, (3, 3), padding=(1, 1), input_size=(size, size))
        for channels, size in LARGE
    ]
    fastest = [
        {kind: shape.macs / min(s) for kind, s in layer_samples(shape, threads, kinds).items()}
        for shape in shapes
    ]
    return {kind: max(rates[kind] for rates in fastest) for kind in kinds}


def _check(shape: LayerShape, kinds: Sequence[Kind]) -> None:
    if shape.is_linear or shape.groups > 1 or shape.dilation != (1, 1):
        raise ValueError(f"{shape}: only plain convolutions are timed, no groups, no dilation")
    if "binary" in kinds and shape.in_channels % CHANNELS:
        raise ValueError(
            f"{shape.in_channels} input channels: the popcount kernel needs a multiple of "
            f"{CHANNELS}"
        )


def _copies(shape: LayerShape) -> int:
    """Return as many as make the call itself, some 4 microseconds, small beside what it runs."""
    return min(MOST_COPIES, max(2, WORK // shape.macs))


def _request(shape: LayerShape, kind: Kind, copies: int, threads: int) -> ov.InferRequest:
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(layer_model(shape, kind, copies), "CPU", config)
    _prove(compiled, kind, copies)
    request = compiled.create_infer_request()
    image = np.random.default_rng(0).standard_normal(list(compiled.input(0).shape))
    request.set_input_tensor(ov.Tensor(image.astype(np.float32)))
    return request


def _prove(compiled: ov.CompiledModel, kind: Kind, copies: int) -> None:
    """Read from the runtime's own graph that every copy runs as asked."""
    name, precisions = RUNS_AS[kind]
    told = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    found = [
        str(info["runtimePrecision"].astype(str))
        for info in told
        if str(info["layerType"].astype(str)) == name
    ]
    if len(found) != copies or not set(found) <= set(precisions):
        runs = f"{len(found)} of {copies} as {name} in {', '.join(sorted(set(found))) or 'nothing'}"
        raise RuntimeError(f"OpenVINO does not run a layer in {kind} here: {runs}")


def layer_model(shape: LayerShape, kind: Kind, copies: int) -> ov.Model:
    """Build copies of the layer side by side, with random weights.

    Input: float32 (1, height, width, channels). Output: a pixel of each copy.
    """
    rng = np.random.default_rng(0)
    entry = opset1.parameter([1, *shape.input_size, shape.in_channels], np.float32)
    # To the graph a transposition; the runtime merely reads the map as it lies.
    x = opset1.transpose(entry, _whole(0, 3, 1, 2))
    size = (shape.out_channels, shape.in_channels, *shape.kernel)
    pixels = []
    for copy in range(copies):
        weights = (rng.standard_normal(size) * 0.05).astype(np.float32)
        # No two copies round alike, or one would do it for all.
        layer = _layer(x, shape, kind, weights, shift=1e-3 * copy)
        pixels.append(opset8.slice(layer, _whole(0, 0), _whole(1, 1), _whole(1, 1), _whole(2, 3)))
    return ov.Model([opset1.result(opset1.concat(pixels, 1))], [entry])


def _layer(x: ov.Node, shape: LayerShape, kind: Kind, weights: np.ndarray, shift: float) -> ov.Node:
    stride, padding = list(shape.stride), list(shape.padding)
    if kind == "binary":
        threshold = np.full(shape.in_channels, shift, np.float32)
        return binary_convolution(x.output(0), threshold, weights, stride, padding, padding)
    filters = opset1.constant(weights)
    if kind == "int8":
        x = _rounded(x, np.zeros(1, np.float32), np.full(1, 3 + shift, np.float32), LEVELS)
        largest = np.abs(weights).max((1, 2, 3), keepdims=True)
        filters = _rounded(filters, -largest, largest, LEVELS - 1)
    return opset1.convolution(x, filters, stride, padding, padding, [1, 1])


def _rounded(x: ov.Node, low: np.ndarray, high: np.ndarray, levels: int) -> ov.Node:
    ends = opset1.constant(low), opset1.constant(high)
    return opset1.fake_quantize(x, *ends, *ends, levels)


def _whole(*numbers: int) -> ov.Node:
    return opset1.constant(np.asarray(numbers, np.int64))
