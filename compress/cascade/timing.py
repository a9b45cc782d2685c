"""Loads a cascade to be timed, beside single networks; run as a fresh process of its own."""

import json
from collections.abc import Sequence
from pathlib import Path

from compress.measure import processes

PROGRAM = "compress.cascade.timing"


def load(
    path: Path, runtime: str, threads: int, allowed: Sequence[str], photographs: Sequence[Path]
) -> processes.MakeCall:
    """Load a cascade where the path is a folder, else as `processes.load`.

    Args:
        photographs: the first of the validation split.
    """
    if not path.is_dir():
        return processes.load(path, runtime, threads, allowed, photographs)
    from compress.cascade.cascade import Cascade
    from compress.cascade.stages import TOLD

    cascade = Cascade.load(path, threads, tuple(allowed))
    contents = [file.read_bytes() for file in photographs]
    told = json.loads((path / TOLD).read_text("utf-8")) if cascade.annotated else [None]
    return lambda batch, rng: (
        lambda i: cascade.find(contents[i % len(contents)], told[i % len(contents) % len(told)])
    )


if __name__ == "__main__":
    processes.main(load)
