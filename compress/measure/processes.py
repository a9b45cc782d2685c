"""Times files in several fresh processes: what one process's memory and threads do is not the model.

A process loads all files and times them interleaved (compress/measure/latency.py). Between
processes a small model's time differs by far more than within one, so that an interval from one
process alone would promise too much.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.errors import UserError
from compress.results import Latency

FAILED = 3  # exit status for what the user can mend; the message is on stderr


@dataclass(frozen=True)
class Timed:
    """A file and the runtime that loads it."""

    path: Path
    runtime: str


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
        "models": {name: [str(m.path), m.runtime] for name, m in models.items()},
        "rounds": {str(batch): count for batch, count in rounds.items()},
        "threads": threads,
        "allowed": list(allowed),
    }
    samples: dict[tuple[str, int], list[list[float]]] = {}
    for process in range(processes):
        done = subprocess.run(
            [sys.executable, "-m", "compress.measure.processes"],
            input=json.dumps(job | {"seed": process}),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == FAILED:
            raise UserError(done.stderr.strip())
        if done.returncode != 0:
            raise RuntimeError(f"timing {', '.join(models)} failed: {done.stderr.strip()}")
        for name, batch, seconds in json.loads(done.stdout.splitlines()[-1]):
            samples.setdefault((name, batch), []).append(seconds)
        progress(process + 1, processes)
    return {
        name: [summarise(samples[name, batch], batch, threads) for batch in rounds]
        for name in models
    }


def _main() -> None:
    import numpy as np

    from compress.measure.latency import time_interleaved
    from compress.runtimes import open_session

    job = json.load(sys.stdin)
    allowed = tuple(job["allowed"])
    try:
        sessions = {
            name: open_session(Path(path), runtime, job["threads"], allowed)
            for name, (path, runtime) in job["models"].items()
        }
        rng = np.random.default_rng(job["seed"])
        lines = []
        for batch, rounds in job["rounds"].items():
            inputs = {
                name: rng.standard_normal((int(batch), 3, *s.picture_size)).astype(np.float32)
                for name, s in sessions.items()
            }
            timed = time_interleaved(sessions, inputs, rounds, job["seed"])
            lines += [(name, int(batch), seconds) for name, seconds in timed.items()]
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from error
    print(json.dumps(lines))


if __name__ == "__main__":
    _main()
