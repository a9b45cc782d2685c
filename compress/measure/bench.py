"""Times any model files with the rigor of a recipe's latency stage, outside of recipes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.export.artifact import files_of
from compress.export.reference_answers import difference_here
from compress.measure.latency import speedup
from compress.measure.machine import machine
from compress.measure.processes import Timed, time_in_processes
from compress.models.sessions import open_session
from compress.results.schema import Deployed, Latency
from compress.runtimes import runtime_for
from compress.utils.errors import UserError
from compress.utils.interval import Interval

LARGE_BATCH_ROUNDS = 5  # a process's samples at batches above 1, each of which holds many images


@dataclass(frozen=True)
class Timing:
    """One file in one runtime at one batch size."""

    file: str
    runtime: str
    latency: Latency
    speedup: Interval | None  # against the first file in the same runtime; None for it itself
    differs: str | None  # how it answers otherwise here than where it was judged


def bench(
    files: Sequence[Path],
    runtimes: Sequence[Deployed],
    batches: Sequence[int],
    threads: int,
    processes: int,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Times every file in every runtime, all interleaved in each of several fresh processes.

    Args:
        runtimes: none: for each file the one that its format says.
        rounds: samples that a process takes of each file at batch 1.

    Returns:
        By batch, then in the order of the files.

    Raises:
        UserError: a file that is not there or that a runtime cannot load, or named twice.
    """
    models: dict[str, Timed] = {}
    for file in files:
        if missing := [str(part) for part in files_of(file) if not part.is_file()]:
            raise UserError(f"No model at {' and '.join(missing)}.")
        for runtime in runtimes or [runtime_for(file)]:
            name = f"{file} in {runtime}"
            if name in models:
                raise UserError(f"{file} is named twice: a file is compared with others.")
            models[name] = Timed(file, runtime)
    by_batch = {batch: rounds if batch == 1 else LARGE_BATCH_ROUNDS for batch in batches}
    timed = time_in_processes(models, by_batch, threads, processes, progress=progress)
    differs = {
        name: difference_here(
            open_session(model.path, model.runtime, threads), model.runtime, machine()
        )
        for name, model in models.items()
    }
    first: dict[str, str] = {}
    for name, model in models.items():
        first.setdefault(model.runtime, name)
    return [
        Timing(
            file=str(model.path),
            runtime=model.runtime,
            latency=timed[name][number],
            speedup=_against(first[model.runtime], name, model.runtime, timed, number),
            differs=differs[name],
        )
        for number in range(len(batches))
        for name, model in models.items()
    ]


def _against(
    first: str, name: str, runtime: str, timed: dict[str, list[Latency]], number: int
) -> Interval | None:
    if name == first:
        return None
    return speedup(first, runtime, timed[first][number], timed[name][number]).ratio
