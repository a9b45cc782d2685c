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
from typing import Any

import psutil

from compress.errors import UserError
from compress.results import Latency

FAILED = 3  # exit status for what the user can mend; the message is on stderr
QUIET_CORES = 0.1  # that others may use while a process times
ATTEMPTS = 3  # of a process that is disturbed


@dataclass(frozen=True)
class Timed:
    """A file and the runtime that loads it."""

    path: Path
    runtime: str
    threads: int | None = None  # None: as many as all the others


@dataclass(frozen=True)
class Run:
    """What one process measured."""

    samples: list[tuple[str, int, list[float]]]  # name, batch, seconds
    disturbance_cores: float  # that other processes used meanwhile


def time_in_processes(
    models: Mapping[str, Timed],
    rounds: Mapping[int, int],
    threads: int,
    processes: int,
    allowed: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[Latency]]:
    """Latencies of each model, one a batch size.

    Args:
        rounds: by batch size, how many samples each process takes of each model.

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
    }
    samples: dict[tuple[str, int], list[list[float]]] = {}
    disturbance_cores = 0.0
    for process in range(processes):
        run = _quietest(job | {"seed": process})
        disturbance_cores = max(disturbance_cores, run.disturbance_cores)
        for name, batch, seconds in run.samples:
            samples.setdefault((name, batch), []).append(seconds)
        progress(process + 1, processes)
    return {
        name: [
            summarise(samples[name, batch], batch, model.threads or threads).model_copy(
                update={"disturbance_cores": disturbance_cores}
            )
            for batch in rounds
        ]
        for name, model in models.items()
    }


def _quietest(job: dict[str, Any]) -> Run:
    """The least disturbed of up to ATTEMPTS processes; the first quiet one is the last."""
    runs: list[Run] = []
    while len(runs) < ATTEMPTS and all(run.disturbance_cores > QUIET_CORES for run in runs):
        runs.append(_fresh_process(job))
    return min(runs, key=lambda run: run.disturbance_cores)


def _fresh_process(job: dict[str, Any]) -> Run:
    done = subprocess.run(
        [sys.executable, "-m", "compress.measure.processes"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == FAILED:
        raise UserError(done.stderr.strip())
    if done.returncode != 0:
        raise RuntimeError(f"timing {', '.join(job['models'])} failed: {done.stderr.strip()}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def time_here(job: dict[str, Any]) -> Run:
    """What a fresh process does."""
    import numpy as np

    from compress.measure.latency import time_interleaved
    from compress.runtimes import open_session

    rng = np.random.default_rng(job["seed"])
    # In another order in each process: a model comes to lie elsewhere in memory in each.
    sessions = {}
    for name in rng.permutation(list(job["models"])).tolist():
        path, runtime, threads = job["models"][name]
        sessions[name] = open_session(Path(path), runtime, threads, tuple(job["allowed"]))
    samples = []
    started, used = time.perf_counter(), others_cpu_s()
    for batch, rounds in job["rounds"].items():
        inputs = {
            name: rng.standard_normal((int(batch), 3, *s.picture_size)).astype(np.float32)
            for name, s in sessions.items()
        }
        timed = time_interleaved(sessions, inputs, rounds, job["seed"])
        samples += [(name, int(batch), seconds) for name, seconds in timed.items()]
    used = others_cpu_s() - used
    return Run(samples, max(0.0, used / (time.perf_counter() - started)))


def others_cpu_s() -> float:
    """Seconds of CPU that all but this process have used since the machine started.

    What a hypervisor gave to other machines counts: it was not to be had here.
    """
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")  # not all are on every system
    busy = sum(getattr(times, kind, 0.0) for kind in kinds)
    return float(busy) - time.process_time()


def _main() -> None:
    try:
        run = time_here(json.load(sys.stdin))
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from error
    print(json.dumps(vars(run)))


if __name__ == "__main__":
    _main()
