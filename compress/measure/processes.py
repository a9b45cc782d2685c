"""Times files in several fresh processes: one process's memory and threads are not the model's.

A process loads all files and times them interleaved (compress/measure/latency.py). Between
processes a small model's time differs by far more than within one, so that an interval from one
process alone would promise too much. A process that others disturbed is repeated.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from compress.measure.conditions import QUIET_CORES, about_machine
from compress.measure.machine import frequency_mhz, usable_threads
from compress.results.schema import Latency
from compress.runtimes.threads import cpus, environment
from compress.utils.alone import TIMING, Note, alone_on_machine, to_stderr
from compress.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

# Of a batch size and a generator of inputs makes a call that is given the round's number.
MakeCall = Callable[[int, "np.random.Generator"], Callable[[int], object]]
Load = Callable[[Path, str, int, Sequence[str], Sequence[Path]], MakeCall]
PROGRAM = "compress.measure.processes"
FAILED = 3  # exit status for what the user can mend; the message is on stderr
ATTEMPTS = 3  # of a process that is disturbed


@dataclass(frozen=True)
class Timed:
    """A file and the runtime that loads it; or a pipeline's folder, which says so itself."""

    path: Path
    runtime: str
    threads: int | None = None  # None: as many as all the others


@dataclass(frozen=True)
class Run:
    """What one process measured."""

    samples: list[tuple[str, int, list[float]]]  # name, batch, seconds
    disturbance_cores: float  # that other processes used meanwhile
    steal_cores: float = 0.0  # and other virtual machines, which is part of it
    frequency_mhz: Sequence[float] = ()  # as seen at times, where the system tells


def time_in_processes(
    models: Mapping[str, Timed],
    rounds: Mapping[int, int],
    threads: int,
    processes: int,
    allowed: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    photographs: Sequence[Path] = (),
    attempts: int | None = None,
    program: str = PROGRAM,
    note: Note = to_stderr,
) -> dict[str, list[Latency]]:
    """Return the latencies of each model, one a batch size; no other run times or trains meanwhile.

    Args:
        rounds: by batch size, how many samples each process takes of each model.
        photographs: image files for pipelines, which are timed from a file's bytes to the
            answer; round i takes the i-th for all of them.
        attempts: of a process that others disturb; without it, ATTEMPTS.
        program: the module that a fresh process runs, which knows how to load the models.
        note: is told that other runs are waited for.

    Raises:
        UserError: a file that its runtime cannot load or run.
    """
    from compress.measure.latency import summarise

    job = {
        "models": {
            name: [str(m.path), m.runtime, m.threads or threads] for name, m in models.items()
        },
        "rounds": {str(batch): count for batch, count in rounds.items()},
        "allowed": list(allowed),
        "photographs": list(map(str, photographs)),
    }
    runs: list[Run] = []
    with alone_on_machine(TIMING, note):
        for process in range(processes):
            runs.append(_quietest(job | {"seed": process}, attempts or ATTEMPTS, program))
            progress(process + 1, processes)
    samples, conditions = _samples(runs), _conditions(runs)
    warnings = about_machine(threads, usable_threads(), **conditions)

    def latency(name: str, batch: int) -> Latency:
        found = summarise(samples[name, batch], batch, models[name].threads or threads)
        update = conditions | {"cpus": cpus(), "warnings": [*warnings, *found.warnings]}
        return found.model_copy(update=update)

    return {name: [latency(name, batch) for batch in rounds] for name in models}


def _samples(runs: Sequence[Run]) -> dict[tuple[str, int], list[list[float]]]:
    """Return seconds by name and batch size, a list of each process."""
    samples: dict[tuple[str, int], list[list[float]]] = {}
    for run in runs:
        for name, batch, seconds in run.samples:
            samples.setdefault((name, batch), []).append(seconds)
    return samples


def _conditions(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the worst of all processes, by the names of `Latency`."""
    clocks = [clock for run in runs for clock in run.frequency_mhz]
    return {
        "disturbance_cores": max(run.disturbance_cores for run in runs),
        "steal_cores": max(run.steal_cores for run in runs),
        "frequency_mhz": (min(clocks), max(clocks)) if clocks else None,
    }


def speedup_over(
    reference: Path,
    path: Path,
    threads: int,
    processes: int,
    rounds: int,
    allowed: Sequence[str] = (),
    note: Note = to_stderr,
) -> float:
    """Return how many times faster a file is, both in onnxruntime at batch 1, interleaved."""
    from compress.measure.latency import speedup

    timed = time_in_processes(
        {"reference": Timed(reference, "onnxruntime"), "candidate": Timed(path, "onnxruntime")},
        {1: rounds},
        threads,
        processes,
        allowed,
        note=note,
    )
    found = speedup("reference", "onnxruntime", timed["reference"][0], timed["candidate"][0])
    return found.ratio.value


def _quietest(job: dict[str, Any], attempts: int, program: str) -> Run:
    """Run up to `attempts` processes, until one is quiet; return the least disturbed."""
    runs: list[Run] = []
    while len(runs) < attempts and all(run.disturbance_cores > QUIET_CORES for run in runs):
        runs.append(_fresh_process(job, program))
    return min(runs, key=lambda run: run.disturbance_cores)


def _fresh_process(job: dict[str, Any], program: str) -> Run:
    done = subprocess.run(
        [sys.executable, "-m", program],
        input=json.dumps(job),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == FAILED:
        raise UserError(done.stderr.strip())
    if done.returncode != 0:
        raise RuntimeError(f"timing {', '.join(job['models'])} failed: {done.stderr.strip()}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def time_here(job: dict[str, Any], load: Load) -> Run:
    """Take the samples that a fresh process is asked for, as `main` reads them."""
    import numpy as np

    from compress.measure.latency import WARM_UP, time_interleaved

    rng = np.random.default_rng(job["seed"])
    # In another order in each process: a model comes to lie elsewhere in memory in each.
    names = rng.permutation(list(job["models"])).tolist()
    photographs = list(map(Path, job["photographs"]))
    loaded = {}
    for name in names:
        path, runtime, threads = job["models"][name]
        loaded[name] = load(Path(path), runtime, threads, job["allowed"], photographs)
    samples = []
    clocks = [frequency_mhz()]
    started, used, stolen = time.perf_counter(), others_cpu_s(), stolen_cpu_s()
    for batch, rounds in job["rounds"].items():
        calls = {name: make_call(int(batch), rng) for name, make_call in loaded.items()}
        warm_up = WARM_UP if batch == "1" else 1
        timed = time_interleaved(calls, rounds, job["seed"], warm_up)
        samples += [(name, int(batch), seconds) for name, seconds in timed.items()]
        clocks.append(frequency_mhz())
    elapsed_s = time.perf_counter() - started
    return Run(
        samples,
        max(0.0, others_cpu_s() - used) / elapsed_s,
        max(0.0, stolen_cpu_s() - stolen) / elapsed_s,
        [clock for clock in clocks if clock],
    )


def load(
    path: Path,
    runtime: str,
    threads: int,
    allowed: Sequence[str],
    photographs: Sequence[Path] = (),
) -> MakeCall:
    """Load a model; photographs are not its business."""
    from compress.measure.inputs import random_inputs
    from compress.models.sessions import open_file

    file = open_file(path, runtime, threads, tuple(allowed))

    def make_call(batch: int, rng: "np.random.Generator") -> Callable[[int], object]:
        arrays = random_inputs(file.inputs, batch, rng)
        return lambda number: file.call(arrays)

    return make_call


def others_cpu_s() -> float:
    """Return seconds of CPU that all but this process have used since the machine started.

    What a hypervisor gave to other machines counts: it was not to be had here.
    """
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")  # not all are on every system
    busy = sum(getattr(times, kind, 0.0) for kind in kinds)
    return float(busy) - time.process_time()


def stolen_cpu_s() -> float:
    """Return seconds of CPU that a hypervisor gave to others, where the system counts them."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def main(load: Load) -> None:
    """Do what a fresh process is started for: a job from stdin, samples to stdout."""
    try:
        run = time_here(json.load(sys.stdin), load)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from error
    print(json.dumps(vars(run)))


if __name__ == "__main__":
    main(load)
