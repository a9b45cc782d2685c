"""The library audit: what the machine offers, what the installed libraries use of it, and what the
user's own model gains by a change that compresses nothing.

Gains are timed as everything is (compress/measure/processes.py): fresh processes, interleaved.
"""

import os
import re
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file

from compress.cascade.spec import CascadeSpec
from compress.cascade.timing import PROGRAM, load
from compress.measure.latency import speedup
from compress.measure.machine import usable_threads
from compress.measure.processes import Timed, time_in_processes
from compress.profile.records import OTHERWISE_THE_SAME, Audit, Fact, Gain
from compress.results.schema import BF16_FLAGS, Latency, Machine
from compress.utils.alone import TIMING, alone_on_machine
from compress.utils.errors import UserError

PROCESSES = (3, 5)
ROUNDS, ROUNDS_S = (2, 15), 1.0  # of one model in one process, and the time to spend on them
SLOW_S = 10.0  # of a process, from which on fewer processes have to do
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
SLOW = 1.5  # times as long with denormal numbers
BASE = "base"


@dataclass(frozen=True)
class Change:
    """Something to try: which file in which runtime, with how many threads."""

    says: str
    timed: Timed
    undone: bool = False  # the base has the change, this is the model without it
    but: str | None = None  # what it may cost


@alone_on_machine(TIMING)
def audit_of(
    base: Timed,
    base_says: str,
    changes: Sequence[Change],
    machine: Machine,
    threads: int,
    batch: int,
    allowed: Sequence[str],
    progress: Callable[[str], None],
    photographs: Sequence[Path] = (),
) -> Audit:
    """Return facts about libraries and machine, and the gain of each change that runs here.

    Args:
        photographs: for a pipeline.
    """

    def once_s(timed: Timed) -> float:
        return call_s(timed, threads, batch, allowed, photographs)

    facts = facts_of(machine, threads, base.path)
    base_s = once_s(base)
    able, calls_s, unable = _tried(changes, once_s)
    models = {BASE: base} | {change.says: change.timed for change in able}
    timed = time_variants(
        models, [base_s, *calls_s], threads, batch, allowed, progress, photographs
    )
    return Audit(
        facts=[*facts, *unable],
        gains=gains_of(timed, base_says, able),
        disturbance_cores=timed[BASE][0].disturbance_cores or 0.0,
    )


def time_variants(
    models: Mapping[str, Timed],
    calls_s: Sequence[float],
    threads: int,
    batch: int,
    allowed: Sequence[str],
    progress: Callable[[str], None],
    photographs: Sequence[Path] = (),
) -> dict[str, list[Latency]]:
    """Time models in as many fresh processes as their calls, roughly `calls_s` each, leave time."""
    rounds, slow = _effort(calls_s)
    processes = PROCESSES[0] if slow else PROCESSES[1]
    progress(f"Timing {len(models)} variants in {processes} fresh processes")
    return time_in_processes(
        models,
        {batch: rounds},
        threads,
        processes,
        allowed,
        photographs=photographs,
        attempts=1 if slow else None,
        program=PROGRAM,
    )


def _tried(
    changes: Sequence[Change], once_s: Callable[[Timed], float]
) -> tuple[list[Change], list[float], list[Fact]]:
    """Return the changes that run here with the seconds of a call, and why the others do not."""
    able, calls_s, unable = [], [], []
    for change in changes:
        try:
            calls_s.append(once_s(change.timed))
            able.append(change)
        except (UserError, RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            unable.append(Fact(subject=change.says, found=f"does not run here: {reason}"))
    return able, calls_s, unable


def _effort(calls_s: Sequence[float]) -> tuple[int, bool]:
    """Return how many samples to take of each model in a process, and whether that is slow."""
    rounds = int(min(ROUNDS[1], max(ROUNDS[0], ROUNDS_S / max(calls_s))))
    # Every call has one before it that is not timed.
    return rounds, 2 * rounds * sum(calls_s) > SLOW_S


def call_s(
    timed: Timed,
    threads: int,
    batch: int,
    allowed: Sequence[str],
    photographs: Sequence[Path] = (),
) -> float:
    """Return roughly the seconds that a call takes here."""
    loaded = load(timed.path, timed.runtime, timed.threads or threads, allowed, photographs)
    call = loaded(batch, np.random.default_rng(0))
    call(0)
    started = time.perf_counter()
    call(0)
    return time.perf_counter() - started


def gains_of(
    timed: Mapping[str, Sequence[Latency]], base_says: str, changes: Sequence[Change]
) -> list[Gain]:
    """Return each change's gain with its interval, the largest first."""
    base = timed[BASE][0]
    gains = []
    for change in changes:
        other = timed[change.says][0]
        reference, candidate = (other, base) if change.undone else (base, other)
        found = speedup(base_says, change.timed.runtime, reference, candidate)
        against = OTHERWISE_THE_SAME if change.undone else base_says
        gains.append(
            Gain(
                change=change.says,
                against=against,
                ratio=found.ratio,
                median_s=candidate.median_s,
                but=change.but,
            )
        )
    return sorted(gains, key=lambda gain: -gain.ratio.value)


def facts_of(machine: Machine, threads: int, path: Path) -> list[Fact]:
    """Return what can be read without timing a model."""
    return [
        _torch(machine),
        _installed("onnxruntime", "pip install onnxruntime"),
        _installed("openvino", "pip install 'compress[openvino]'"),
        threads_fact(machine, threads),
        instructions_fact(machine, "bfloat16", BF16_FLAGS),
        instructions_fact(machine, "int8", INT8_FLAGS),
        _denormals(path),
    ]


def _torch(machine: Machine) -> Fact:
    import torch

    text = torch.__config__.show()
    libraries = [f"torch {torch.__version__}"]
    for name, pattern in (
        ("MKL", r"Math Kernel Library Version (\S+?)-"),
        ("oneDNN", r"(?:MKL-DNN|oneDNN) v(\S+)"),
        ("OpenBLAS", r"OpenBLAS (\S+)"),
    ):
        if found := re.search(pattern, text):
            libraries.append(f"{name} {found[1]}")
    used = torch.backends.cpu.get_cpu_capability()
    libraries.append(f"kernels for {used}")
    advice = None
    if "avx512f" in machine.cpu_flags and not used.startswith("AVX512"):
        advice = f"the CPU has AVX-512, torch uses {used}: unset ATEN_CPU_CAPABILITY or update it"
    elif not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        advice = "built without oneDNN, its convolutions are slow: install torch from pytorch.org"
    return Fact(subject="torch's libraries", found=", ".join(libraries), advice=advice)


def _installed(package: str, command: str) -> Fact:
    try:
        return Fact(subject=package, found=version(package))
    except PackageNotFoundError:
        return Fact(subject=package, found="not installed", advice=f"try it: {command}")


def threads_fact(machine: Machine, threads: int) -> Fact:
    """Return how many threads compute, and how many could."""
    usable = usable_threads()
    found = f"{threads} used, {usable} usable, {machine.cores} in the machine"
    if told := os.environ.get("OMP_NUM_THREADS"):
        found += f", OMP_NUM_THREADS={told}"
    advice = None
    if threads > usable:
        advice = f"more than may run at once (affinity, cgroup quota): use {usable}"
    elif told and told.isdigit() and int(told) < usable:
        advice = "OMP_NUM_THREADS keeps torch from the other cores where nobody sets its threads"
    elif threads < usable:
        advice = f"{usable - threads} more may be used"
    return Fact(subject="threads", found=found, advice=advice)


def instructions_fact(machine: Machine, precision: str, flags: Sequence[str]) -> Fact:
    """Return which instructions for a precision the CPU has."""
    found = ", ".join(flag for flag in flags if flag in machine.cpu_flags)
    return Fact(
        subject=f"{precision} instructions", found=found or "none on this CPU: it would be slow"
    )


def _denormals(path: Path) -> Fact:
    """Count the weights below 1e-38, and say what computing with such numbers costs here."""
    largest = np.finfo(np.float32).tiny
    count = total = 0
    for weights in _weights(path):
        count += int(((weights != 0) & (np.abs(weights) < largest)).sum())
        total += weights.size
    slower = _multiply_s(1e-40) / _multiply_s(1.0)
    found = f"{count} of {total} weights; a product with one takes {slower:.1f} times as long here"
    advice = "set them to zero, or ask the runtime to" if count and slower > SLOW else None
    return Fact(subject="denormal numbers", found=found, advice=advice)


def _weights(path: Path) -> Iterator[np.ndarray]:
    """Yield the float32 weights of a model's file in any format, or of a pipeline."""
    if path.is_dir():
        for stage in CascadeSpec.load(path).stages:
            yield from _weights(path / stage.model)
    elif path.suffix == ".onnx":
        for tensor in onnx.load(path).graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                yield numpy_helper.to_array(tensor)
    elif path.suffix == ".xml":
        from compress.runtimes.openvino_ir import read_ir

        for op in read_ir(path).get_ops():
            if op.get_type_name() == "Constant" and op.get_element_type().to_string() == "f32":
                yield op.data
    else:
        for weights in load_file(path).values():
            if weights.dtype == np.float32:
                yield weights


def _multiply_s(value: float) -> float:
    """Return the seconds of a product of an array that fits into the nearest cache."""
    a, b = np.full(4096, value, np.float32), np.ones(4096, np.float32)
    out = np.empty_like(a)
    return min(timeit.repeat(lambda: np.multiply(a, b, out=out), number=50, repeat=20))
