"""How long each kernel of a deployed file takes, from the runtime's own profile.

The file runs in the session that serves it, once with the profile and once without: the second
time is what the parts must add up to.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compress.measure.conditions import QUIET_CORES
from compress.measure.inputs import random_inputs
from compress.measure.latency import SETTLE_S, WARM_UP
from compress.measure.processes import others_cpu_s
from compress.models.sessions import open_file
from compress.runtimes import AnyFile, runtime_named
from compress.runtimes.base import Kernel, ProfiledFile, Runtime
from compress.utils.alone import TIMING, alone_on_machine

ATTEMPTS = 3  # to time without disturbance
TURNS, TURN_S = 8, 0.2  # with and without the profile, and the least time of a turn
MOST_CALLS = 60  # of one turn


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
        runtime: one that tells kernels.

    Raises:
        UserError: a file that the runtime cannot load or run.
    """
    found: list[Timing] = []
    while len(found) < ATTEMPTS and all(x.disturbance_cores > QUIET_CORES for x in found):
        found.append(time_in_turns(path, runtime, threads, batch, TURNS))
    return min(found, key=lambda timing: timing.disturbance_cores)


@alone_on_machine(TIMING)
def time_in_turns(path: Path, runtime: str, threads: int, batch: int, turns: int) -> Timing:
    """Time with and without the profile in turns, however others disturb it.

    All times are means over the fastest quarter of the calls, which others disturbed least; the
    parts are of the same calls as `profiled_s`. Where a runtime tells only means, of a
    turn's calls, it is the fastest quarter of the turns.
    """
    served = runtime_named(runtime)
    plain = open_file(path, runtime, threads)
    arrays = random_inputs(plain.inputs, batch, np.random.default_rng(0))
    latency_s = min(_seconds(plain, arrays, WARM_UP))
    calls = min(MOST_CALLS, math.ceil(TURN_S / latency_s))
    whole: list[float] = []
    profiled: list[Sample] = []
    started, others = time.perf_counter(), others_cpu_s()
    for _ in range(turns):
        time.sleep(SETTLE_S)  # idle threads of the other session spin for a while
        seconds = _seconds(plain, arrays, 1 + calls)[1:]
        whole += seconds if served.tells_calls else [float(np.mean(seconds))]
        profiled += _turn(served, path, threads, arrays, calls)
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


def _seconds(file: AnyFile | ProfiledFile, arrays: Sequence[np.ndarray], calls: int) -> list[float]:
    samples = []
    for _ in range(calls):
        started = time.perf_counter()
        file.call(arrays)
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


def _turn(
    runtime: Runtime, path: Path, threads: int, arrays: Sequence[np.ndarray], calls: int
) -> list[Sample]:
    """Take one sample a call; where the runtime tells only means, one of all."""
    with tempfile.TemporaryDirectory() as folder:
        file = runtime.profiled(path, threads, Path(folder))
        time.sleep(SETTLE_S)
        if runtime.tells_calls:
            seconds = _seconds(file, arrays, WARM_UP + calls)
            return list(zip(seconds, file.kernels(), strict=True))[WARM_UP:]
        _seconds(file, arrays, WARM_UP)
        (warmed,) = file.kernels()
        before = {kernel.names: kernel.seconds for kernel in warmed}
        mean_s = float(np.mean(_seconds(file, arrays, calls)))
        (told,) = file.kernels()
    kernels = []
    for kernel in told:
        # The warm-up, which is slower, is taken out of the mean.
        slower_s = before[kernel.names] - kernel.seconds
        corrected = max(0.0, kernel.seconds - slower_s * WARM_UP / calls)
        kernels.append(replace(kernel, seconds=corrected))
    return [(mean_s, kernels)]
