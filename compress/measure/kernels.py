"""How long each kernel of a deployed file takes, from the runtime's own profile.

The file runs in the session that serves it, once with the profile and once without: the second
time is what the parts must add up to.
"""

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compress.measure.conditions import QUIET_CORES
from compress.measure.latency import SETTLE_S, WARM_UP
from compress.measure.processes import others_cpu_s
from compress.models.sessions import open_session
from compress.runtimes import Session

ATTEMPTS = 3  # to time without disturbance
TURNS, TURN_S = 8, 0.2  # with and without the profile, and the least time of a turn
MOST_CALLS = 60  # of one turn
# How many bytes a number takes, by how OpenVINO calls its type.
BYTES = {
    "f32": 4, "f64": 8, "f16": 2, "bf16": 2, "u8": 1, "i8": 1, "boolean": 1, "u1": 1 / 8,
    "i32": 4, "i64": 8,
}  # fmt: skip
# What compress calls the precisions that layers compute in.
PRECISIONS = {
    "float": "float32", "uint8": "int8", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "u8": "int8", "i8": "int8", "u1": "binary",
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One kernel of the runtime, in the order of execution."""

    operation: str  # as the runtime calls it
    precision: str  # of what it reads
    output_shape: tuple[int, ...]
    activation_bytes: int  # read and written, weights not among them
    names: tuple[str, ...]  # of nodes or tensors of the file that it computes, as far as it says
    seconds: float  # a call


@dataclass(frozen=True)
class Timing:
    """A file's time and its kernels'."""

    whole_s: float  # a call, without the profile
    profiled_s: float  # a call with it: the very calls that the kernels' times are from
    kernels: list[Kernel]
    disturbance_cores: float  # that other processes used meanwhile


Sample = tuple[float, list[Kernel]]  # seconds of a call, and its kernels


def time_kernels(path: Path, runtime: str, threads: int, batch: int) -> Timing:
    """Time a deployed file with and without the runtime's profile; again if others disturb it.

    Args:
        runtime: "onnxruntime", or one of OpenVINO.

    Raises:
        UserError: a file that the runtime cannot load or run.
    """
    found: list[Timing] = []
    while len(found) < ATTEMPTS and all(x.disturbance_cores > QUIET_CORES for x in found):
        found.append(_time_kernels(path, runtime, threads, batch))
    return min(found, key=lambda timing: timing.disturbance_cores)


def _time_kernels(path: Path, runtime: str, threads: int, batch: int) -> Timing:
    """Time with and without the profile in turns.

    All times are means over the fastest quarter of the calls, which others disturbed least; the
    parts are of the same calls as `profiled_s`. OpenVINO tells only means, of a turn's calls: there
    it is the fastest quarter of the turns.
    """
    by_call = runtime == "onnxruntime"
    plain = open_session(path, runtime, threads)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, plain.channels, *plain.image_size)).astype(np.float32)
    latency_s = min(_seconds(plain, images, WARM_UP))
    calls = min(MOST_CALLS, math.ceil(TURN_S / latency_s))
    whole: list[float] = []
    profiled: list[Sample] = []
    started, others = time.perf_counter(), others_cpu_s()
    for _ in range(TURNS):
        time.sleep(SETTLE_S)  # idle threads of the other session spin for a while
        seconds = _seconds(plain, images, 1 + calls)[1:]
        whole += seconds if by_call else [float(np.mean(seconds))]
        if by_call:
            profiled += _onnxruntime_turn(path, threads, images, calls)
        else:
            profiled.append(_openvino_turn(path, runtime, threads, images, calls))
    others = others_cpu_s() - others
    fastest = sorted(profiled, key=lambda sample: sample[0])[: _quarter(profiled)]
    return Timing(
        whole_s=float(np.mean(sorted(whole)[: _quarter(whole)])),
        profiled_s=float(np.mean([seconds for seconds, _ in fastest])),
        kernels=mean_kernels([kernels for _, kernels in fastest]),
        disturbance_cores=max(0.0, others / (time.perf_counter() - started)),
    )


def _quarter(samples: Sequence[object]) -> int:
    return math.ceil(len(samples) / 4)


def _seconds(session: Session, images: np.ndarray, calls: int) -> list[float]:
    samples = []
    for _ in range(calls):
        started = time.perf_counter()
        session.run(images)
        samples.append(time.perf_counter() - started)
    return samples


def mean_kernels(calls: Sequence[Sequence[Kernel]]) -> list[Kernel]:
    """Return each kernel with its mean time over the calls, ordered as in the first that has it."""
    seconds: dict[tuple[str, ...], float] = {}
    first: dict[tuple[str, ...], Kernel] = {}
    for call in calls:
        for kernel in call:
            seconds[kernel.names] = seconds.get(kernel.names, 0.0) + kernel.seconds
            first.setdefault(kernel.names, kernel)
    return [replace(k, seconds=seconds[names] / len(calls)) for names, k in first.items()]


def _onnxruntime_turn(path: Path, threads: int, images: np.ndarray, calls: int) -> list[Sample]:
    """Take one sample a call."""
    from compress.runtimes.onnxruntime import OnnxSession

    with tempfile.TemporaryDirectory() as folder:
        session = OnnxSession(path, threads, profile=Path(folder) / "kernels")
        time.sleep(SETTLE_S)
        seconds = _seconds(session, images, WARM_UP + calls)
        profile = json.loads(Path(session.session.end_profiling()).read_text("utf-8"))
    kernels = kernels_by_call(profile)
    return list(zip(seconds, kernels, strict=True))[WARM_UP:]


Event = dict[str, Any]


def kernels_by_call(profile: Sequence[Event]) -> list[list[Kernel]]:
    """Return what onnxruntime's profile says of each call, in the order of execution.

    A kernel that runs a graph of its own (If, Loop) stands for those inside.
    """
    starts = sorted(event["ts"] for event in profile if event["name"] == "model_run")
    events = [
        event
        for event in profile
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
    ]
    # The outer one first, where two start in the same microsecond.
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    calls: list[list[Kernel]] = [[] for _ in starts]
    call = ends = 0
    for event in events:
        while call + 1 < len(starts) and event["ts"] >= starts[call + 1]:
            call += 1
        if event["ts"] + event["dur"] <= ends and event["dur"]:
            continue
        calls[call].append(_kernel(event))
        ends = event["ts"] + event["dur"]
    return calls


def _kernel(event: Event) -> Kernel:
    arguments = event["args"]
    inputs = [name for entry in arguments["input_type_shape"] for name in entry]
    outputs = [shape for entry in arguments["output_type_shape"] for shape in entry.values()]
    read = inputs[0] if inputs else "float"
    return Kernel(
        operation=arguments["op_name"],
        precision=PRECISIONS.get(read, read),
        output_shape=tuple(outputs[0]) if outputs else (),
        activation_bytes=int(arguments["activation_size"]) + int(arguments["output_size"]),
        names=(str(event["name"]).removesuffix("_kernel_time"),),
        seconds=1e-6 * event["dur"],
    )


def _openvino_turn(
    path: Path, runtime: str, threads: int, images: np.ndarray, calls: int
) -> Sample:
    """Take one sample: the graph holds kernels' means over all calls, cut to microseconds.

    What takes less than one takes none.
    """
    from compress.runtimes.openvino import OpenVinoSession

    precision: Literal["f32", "bf16"] = "bf16" if runtime == "openvino-bf16" else "f32"
    session = OpenVinoSession(path, threads, precision, profile=True)
    request = session.request(len(images))
    time.sleep(SETTLE_S)
    _seconds(session, images, WARM_UP)
    before = {kernel.names: kernel.seconds for kernel in _openvino_kernels(request)}
    seconds = float(np.mean(_seconds(session, images, calls)))
    kernels = []
    for kernel in _openvino_kernels(request):
        # The warm-up, which is slower, is taken out of the mean.
        slower_s = before[kernel.names] - kernel.seconds
        corrected = max(0.0, kernel.seconds - slower_s * WARM_UP / calls)
        kernels.append(replace(kernel, seconds=corrected))
    return seconds, kernels


def _openvino_kernels(request: Any) -> list[Kernel]:
    operations = request.get_compiled_model().get_runtime_model().get_ordered_ops()
    facts = {op.get_friendly_name(): _facts(op) for op in operations}
    executed = [
        op
        for op in sorted(operations, key=lambda op: int(facts[op.get_friendly_name()]["execOrder"]))
        if facts[op.get_friendly_name()]["layerType"] not in ("Const", "Input", "Output")
    ]
    return [_openvino_kernel(op, facts) for op in executed]


def _facts(op: Any) -> dict[str, str]:
    return {key: str(value.astype(str)) for key, value in op.get_rt_info().items()}


def _openvino_kernel(op: Any, facts: dict[str, dict[str, str]]) -> Kernel:
    mine = facts[op.get_friendly_name()]
    moved = sum(_bytes(output, facts) for output in op.outputs())
    for entry in op.input_values():
        if facts[entry.get_node().get_friendly_name()].get("layerType") != "Const":
            moved += _bytes(entry, facts)
    precision = mine.get("runtimePrecision", "f32")
    names = mine.get("originalLayersNames", "")
    return Kernel(
        operation=mine["layerType"],
        precision=PRECISIONS.get(precision, precision),
        output_shape=tuple(op.outputs()[0].get_shape()) if op.outputs() else (),
        activation_bytes=int(moved),
        names=tuple(names.split(",")) if names else (op.get_friendly_name(),),
        seconds=1e-6 * int(time_us) if (time_us := mine["execTimeMcs"]).isdigit() else 0.0,
    )


def _bytes(output: Any, facts: dict[str, dict[str, str]]) -> float:
    precisions = facts[output.get_node().get_friendly_name()]["outputPrecisions"].split(",")
    precision = precisions[min(output.get_index(), len(precisions) - 1)]
    return math.prod(output.get_shape()) * BYTES.get(precision, 4)
