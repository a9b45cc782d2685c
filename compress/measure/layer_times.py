"""What a layer costs on this machine: its shape is timed in the runtime, its weights do not matter.

Times are kept in a table per machine, runtime and thread count, shared by all recipes.
"""

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from compress.utils.alone import TIMING, Note, alone_on_machine, to_stderr
from compress.utils.files import write_text

OPSET = 18
BLOCK = 16  # channels that the runtime's convolutions compute at once
SAMPLES, LEAST_S, WARM_UP = 7, 0.02, 2  # samples of a shape, at least this long together


@dataclass(frozen=True)
class LayerShape:
    """A convolution, or a linear layer (a kernel of 0 x 0), at batch 1."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    input_size: tuple[int, int] = (1, 1)  # height and width of the map it sees

    @property
    def is_linear(self) -> bool:
        return self.kernel == (0, 0)

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.in_channels == self.out_channels > 1

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the map it makes."""
        if self.is_linear:
            return self.input_size
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.input_size, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        if self.is_linear:
            return self.in_channels * self.out_channels
        per_output = self.in_channels // self.groups * math.prod(self.kernel)
        return self.out_channels * per_output * math.prod(self.output_size)


Chain = tuple[LayerShape, ...]


class LayerTimes:
    """Seconds of chains of layers in onnxruntime at batch 1, measured once."""

    def __init__(self, folder: Path, machine: object, threads: int, note: Note = to_stderr) -> None:
        """
        Args:
            folder: where the tables lie.
            machine: what the times belong to: CPU and versions of the runtime, as JSON.
            note: is told that other runs on the machine are waited for.
        """
        self.threads = threads
        self.note = note
        self.owner = json.loads(json.dumps({"machine": machine, "threads": threads}))
        name = f"onnxruntime-{threads}-{_digest(json.dumps(self.owner, sort_keys=True))}.json"
        self.path = folder / name

    @cached_property
    def _table(self) -> dict[str, float]:
        """Empty where there is none that can be read: it is measured anew."""
        try:
            stored = json.loads(self.path.read_text("utf-8"))["seconds"]
            return {str(key): float(seconds) for key, seconds in stored.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def seconds(self, chain: Chain, int8: bool = False) -> float:
        """Kernel time of the layers one after the other, no activations between them.

        In int8 with the conversions at both ends: what the layer takes when its neighbours are
        float.
        """
        return self.many([chain], int8=int8)[0]

    def many(self, chains: Iterable[Chain], int8: bool = False) -> list[float]:
        """The same for many chains; what is not in the table is measured and kept."""
        chains = list(chains)
        missing = [c for c in dict.fromkeys(chains) if _key(c, int8) not in self._table]
        if missing:
            with alone_on_machine(TIMING, self.note):
                self._measure(missing, int8)
        return [self._table[_key(chain, int8)] for chain in chains]

    def _measure(self, chains: Sequence[Chain], int8: bool) -> None:
        last_saved = time.monotonic()
        for number, chain in enumerate(chains):
            self._table[_key(chain, int8)] = measure_chain(chain, self.threads, int8)
            if number + 1 == len(chains) or time.monotonic() - last_saved > 10:
                self._save()
                last_saved = time.monotonic()

    def _save(self) -> None:
        write_text(self.path, json.dumps(self.owner | {"seconds": self._table}, indent=0))


def _key(chain: Chain, int8: bool) -> str:
    shapes = json.dumps([list(asdict(shape).values()) for shape in chain], separators=(",", ":"))
    return f"int8 {shapes}" if int8 else shapes


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measure_chain(chain: Chain, threads: int, int8: bool = False) -> float:
    """Median seconds of the chain's kernels, from the runtime's own profile.

    Changes of memory layout at the ends are not counted: inside a network the neighbours share the
    layout. Those between the layers of the chain are.
    """
    model = chain_model(chain)
    if int8:
        from compress.export.int8 import quantize_model

        names = ["input", "output", *(f"layer{number}" for number in range(len(chain)))]
        model = quantize_model(model, dict.fromkeys(names, (-3.0, 3.0)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        entry = session.get_inputs()[0]
        rng = np.random.default_rng(0)
        image = rng.standard_normal(entry.shape).astype(np.float32)
        runs = 0
        ends = 0.0
        while runs < WARM_UP + SAMPLES or time.perf_counter() < ends:
            if runs == WARM_UP:
                ends = time.perf_counter() + LEAST_S
            session.run(None, {entry.name: image})
            runs += 1
        profile = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return _kernel_seconds(profile, runs)


def _kernel_seconds(profile: list[dict[str, object]], runs: int) -> float:
    """Sum over the nodes of the median duration, layout changes at the ends left out."""
    durations: dict[str, list[float]] = {}
    operations: dict[str, str] = {}
    for event in profile:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            durations.setdefault(name, []).append(float(str(event["dur"])) * 1e-6)
            arguments = event["args"]
            assert isinstance(arguments, dict)
            operations[name] = str(arguments["op_name"])
    names = list(durations)  # in the order of execution
    ends = ("ReorderInput", "ReorderOutput")
    while names and operations[names[0]] in ends:
        names.pop(0)
    while names and operations[names[-1]] in ends:
        names.pop()
    # Integer convolutions are channels-last: inside a network they stay so.
    names = [name for name in names if operations[name] != "Transpose"]
    return sum(float(np.median(durations[name][WARM_UP:])) for name in names)


def chain_model(chain: Sequence[LayerShape]) -> onnx.ModelProto:
    """The chain as ONNX with random weights; the last layer is followed by a ReLU, as most are."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    first = chain[0]
    value = "input"
    for number, shape in enumerate(chain):
        last = number + 1 == len(chain)
        output = f"layer{number}"
        kernel = () if shape.is_linear else shape.kernel
        size = (shape.out_channels, shape.in_channels // shape.groups, *kernel)
        weight = (rng.standard_normal(size) * 0.05).astype(np.float32)
        bias = np.zeros(shape.out_channels, dtype=np.float32)
        weights.append(onnx.numpy_helper.from_array(weight, f"w{number}"))
        weights.append(onnx.numpy_helper.from_array(bias, f"b{number}"))
        inputs = [value, f"w{number}", f"b{number}"]
        if shape.is_linear:
            nodes.append(helper.make_node("Gemm", inputs, [output], transB=1))
        else:
            nodes.append(
                helper.make_node(
                    "Conv",
                    inputs,
                    [output],
                    kernel_shape=shape.kernel,
                    strides=shape.stride,
                    pads=shape.padding * 2,
                    dilations=shape.dilation,
                    group=shape.groups,
                )
            )
        value = output
        if last:
            nodes.append(helper.make_node("Relu", [output], ["output"]))
    maps = () if first.is_linear else first.input_size
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, first.in_channels, *maps))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def interpolated(times: LayerTimes, shape: LayerShape) -> Callable[[int, int], float]:
    """Seconds of a layer as a function of (in channels, out channels), between measured widths.

    A depthwise layer has one width, the first argument is not looked at. Any other grouped one
    keeps its width (compress/methods/prune/channel_groups.py), neither is looked at.
    """
    if shape.is_depthwise:
        ins, outs = [1], _grid(shape.out_channels)
        points = [replace(shape, in_channels=o, out_channels=o, groups=o) for o in outs]
    elif shape.groups > 1:
        ins, outs, points = [1], [1], [shape]
    else:
        ins, outs = _grid(shape.in_channels), _grid(shape.out_channels)
        points = [replace(shape, in_channels=i, out_channels=o) for i in ins for o in outs]
    values = np.asarray(times.many([(point,) for point in points])).reshape(len(ins), len(outs))

    @cache
    def seconds(in_channels: int, out_channels: int) -> float:
        columns = [float(np.interp(out_channels, outs, row)) for row in values]
        return float(np.interp(in_channels, ins, columns))

    return seconds


def _grid(channels: int) -> list[int]:
    """Widths to measure: dense where a layer is narrow, since there the times bend."""
    fractions = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
    rounded = {max(BLOCK, round(channels * f / BLOCK) * BLOCK) for f in fractions}
    return sorted({width for width in rounded if width < channels} | {channels})
