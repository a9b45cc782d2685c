"""How much faster one file is than another: what steps decide by."""

from pathlib import Path

from compress.context import Context
from compress.measure.latency import speedup
from compress.measure.processes import Timed, time_in_processes


def speedup_over(
    reference: Path, path: Path, context: Context, processes: int, rounds: int
) -> float:
    """Times faster than `reference`, both in onnxruntime at batch 1, interleaved."""
    timed = time_in_processes(
        {"reference": Timed(reference, "onnxruntime"), "candidate": Timed(path, "onnxruntime")},
        {1: rounds},
        context.threads,
        processes,
        context.allowed,
    )
    found = speedup("reference", "onnxruntime", timed["reference"][0], timed["candidate"][0])
    return found.ratio.value
