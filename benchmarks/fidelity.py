"""Can the timings be believed? Against onnxruntime's own clock, and one run against the next.

    python benchmarks/fidelity.py MODEL.onnx [MODEL.onnx ...]

1. Every timed call is also timed by onnxruntime itself (`model_run` in the profile of the same
   session); the two medians are compared. Ours holds the Python call around it.
2. `compress bench` runs twice; the speedups of the two runs should lie in each other's intervals.

Prints Markdown; `--out FILE` writes it too.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime

from compress.measure.bench import bench
from compress.measure.latency import SETTLE_S, time_interleaved
from compress.measure.machine import machine, usable_threads
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils import units

ROUNDS = 60


class Clocked(OnnxSession):
    """A session that onnxruntime profiles, and that notes when each call began."""

    def __init__(self, path: Path, threads: int, folder: str) -> None:
        super().__init__(path, threads)
        options = self.session.get_session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.began_s: list[float] = []

    def run(self, images: np.ndarray) -> np.ndarray:
        self.began_s.append(time.perf_counter())
        return super().run(images)

    def timed_by_onnxruntime_s(self) -> list[float]:
        """Seconds of the timed calls: those that are followed by a rest, and the last."""
        events = json.loads(Path(self.session.end_profiling()).read_text("utf-8"))
        runs = [event["dur"] / 1e6 for event in events if event["name"] == "model_run"]
        assert len(runs) == len(self.began_s), "one event a call"
        gaps = [later - began for began, later in pairwise(self.began_s)]
        rested = [gap - run > SETTLE_S * 0.9 for gap, run in zip(gaps, runs[:-1], strict=True)]
        timed = [run for run, rest in zip(runs, [*rested, True], strict=True) if rest]
        return timed[-ROUNDS:]  # the first rest comes after warming up


def against_onnxruntime(files: list[Path], threads: int) -> list[str]:
    """A Markdown table of our medians and onnxruntime's for the same calls."""
    lines = ["| file | ours, ms | onnxruntime's, ms | difference |", "| --- | --: | --: | --: |"]
    rng = np.random.default_rng(0)
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            session = Clocked(file, threads, folder)
            images = rng.standard_normal((1, 3, *session.image_size)).astype(np.float32)
            call = partial(_call, session, images)
            ours = time_interleaved({"model": call}, ROUNDS)["model"]
            own = session.timed_by_onnxruntime_s()
        assert len(own) == ROUNDS
        a, b = float(np.median(ours)), float(np.median(own))
        lines.append(
            f"| {file.name} | {units.ms(a)} | {units.ms(b)} | {100 * (a / b - 1):+.2f} % |"
        )
    return lines


def _call(session: OnnxSession, images: np.ndarray, number: int) -> None:
    session.run(images)


def twice(files: list[Path], threads: int) -> list[str]:
    """A Markdown table of two runs of `compress bench`."""
    runs = [bench(files, [], [1], threads, 5, 20) for _ in range(2)]
    lines = ["| file | first run | second run | agree |", "| --- | --: | --: | --- |"]
    for one, other in zip(*runs, strict=True):
        if one.speedup is None or other.speedup is None:
            continue
        agree = one.speedup.low <= other.speedup.high and other.speedup.low <= one.speedup.high
        lines.append(
            f"| {Path(one.file).name} | {units.times_interval(one.speedup)} | "
            f"{units.times_interval(other.speedup)} | {'yes' if agree else 'NO'} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    threads = usable_threads()
    text = "\n".join(
        [
            "# Fidelity of the timings",
            "",
            f"`benchmarks/fidelity.py` on {machine().cpu}, {threads} threads, onnxruntime "
            f"{onnxruntime.__version__}.",
            "",
            f"## Against onnxruntime's own clock, {ROUNDS} calls each",
            "",
            *against_onnxruntime(arguments.files, threads),
            "",
            f"## Two runs of `compress bench`: times faster than {arguments.files[0].name} (95 %)",
            "",
            *twice(arguments.files, threads),
            "",
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
