"""What a fresh process needs that loads an artifact and runs it: time, memory and energy."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from compress.runtimes.threads import environment

PROCESSES = 3  # how long loading takes varies


class FirstRun(NamedTuple):
    """Of PROCESSES fresh processes: the largest of the memory, the medians of the others."""

    peak_memory_bytes: int  # largest resident set, Python and runtime included
    cold_start_s: float  # loading and the first call; the runtime was imported before
    energy_j: float | None  # of a later call, see compress/measure/energy.py


def first_run(path: Path, runtime: str, threads: int, allowed: tuple[str, ...] = ()) -> FirstRun:
    """Loads a file and runs it on one image, in fresh processes one after the other.

    The file is in the system's cache: it was just hashed and judged.

    Raises:
        RuntimeError: a process failed; the message holds what it printed.
    """
    runs = [_fresh_process(path, runtime, threads, allowed) for _ in range(PROCESSES)]
    energies = sorted(run.energy_j for run in runs if run.energy_j is not None)
    return FirstRun(
        max(run.peak_memory_bytes for run in runs),
        sorted(run.cold_start_s for run in runs)[len(runs) // 2],
        energies[len(energies) // 2] if energies else None,
    )


def _fresh_process(path: Path, runtime: str, threads: int, allowed: tuple[str, ...]) -> FirstRun:
    arguments = [str(path), runtime, str(threads), *allowed]
    done = subprocess.run(
        [sys.executable, "-m", "compress.measure.memory", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"running {path} for the first time failed: {done.stderr.strip()}")
    return FirstRun(*json.loads(done.stdout.splitlines()[-1]))


def _main(path: Path, runtime: str, threads: int, allowed: tuple[str, ...]) -> None:
    import numpy as np

    from compress.measure.energy import energy_per_call_j
    from compress.models.sessions import loader_of

    load = loader_of(runtime, allowed)
    started = time.perf_counter()
    session = load(path, threads, True, None)
    image = np.zeros((1, session.channels or 3, *session.image_size), dtype=np.float32)
    session.run(image)
    cold_start_s = time.perf_counter() - started
    peak_memory_bytes = _peak_bytes()
    energy_j = energy_per_call_j(lambda: session.run(image))
    print(json.dumps(FirstRun(peak_memory_bytes, cold_start_s, energy_j)))


def _peak_bytes() -> int:
    if sys.platform == "linux":
        # getrusage would tell the peak of the process that started this one, if that was larger.
        status = Path("/proc/self/status").read_text("ascii").splitlines()
        line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), tuple(sys.argv[4:]))
