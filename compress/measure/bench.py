"""Times any model files with the rigor of a recipe's latency stage, outside of recipes."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.export.artifact import files_of
from compress.export.reference_answers import difference_here
from compress.measure.deployable import with_size
from compress.measure.inputs import described
from compress.measure.latency import speedup
from compress.measure.machine import machine
from compress.measure.processes import Timed, time_in_processes
from compress.models.onnx_faults import refuse_training
from compress.models.sessions import open_file, open_session
from compress.results.schema import Deployed, Latency
from compress.runtimes import runtime_for
from compress.runtimes.base import Size
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
    fed: str  # its inputs, which are random


def bench(
    files: Sequence[Path],
    runtimes: Sequence[Deployed],
    batches: Sequence[int],
    threads: int,
    processes: int,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    size: Size | None = None,
) -> list[Timing]:
    """Times every file in every runtime, all interleaved in each of several fresh processes.

    Inputs are random numbers of the types and shapes that a file says, whatever they are.

    Args:
        runtimes: none: for each file the one that its format says.
        rounds: samples that a process takes of each file at batch 1.
        size: height and width of images, for files that leave them free.

    Returns:
        By batch, then in the order of the files.

    Raises:
        UserError: a file that is not there or that a runtime cannot load, in training mode, or
            named twice; inputs whose shapes nobody says.
    """
    models = _models(files, runtimes)
    by_batch = {batch: rounds if batch == 1 else LARGE_BATCH_ROUNDS for batch in batches}
    with tempfile.TemporaryDirectory() as folder:
        fixed = {
            name: Timed(with_size(model.path, size, Path(folder) / str(number)), model.runtime)
            for number, (name, model) in enumerate(models.items())
        }
        fed = _fed(fixed, batches, threads)
        timed = time_in_processes(fixed, by_batch, threads, processes, progress=progress)
    differs = {name: _differs(model, threads) for name, model in models.items()}
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
            fed=fed[name, batch],
        )
        for number, batch in enumerate(batches)
        for name, model in models.items()
    ]


def _models(files: Sequence[Path], runtimes: Sequence[Deployed]) -> dict[str, Timed]:
    """Return what is timed by a name for each."""
    models: dict[str, Timed] = {}
    for file in files:
        if missing := [str(part) for part in files_of(file) if not part.is_file()]:
            raise UserError(f"No model at {' and '.join(missing)}.")
        refuse_training(file)
        for runtime in runtimes or [runtime_for(file)]:
            name = f"{file} in {runtime}"
            if name in models:
                raise UserError(f"{file} is named twice: a file is compared with others.")
            models[name] = Timed(file, runtime)
    return models


def _fed(
    models: Mapping[str, Timed], batches: Sequence[int], threads: int
) -> dict[tuple[str, int], str]:
    """Return what each is fed, by its name and the batch; better refused now than in a process."""
    fed = {}
    for name, model in models.items():
        inputs = open_file(model.path, model.runtime, threads).inputs
        for batch in batches:
            try:
                fed[name, batch] = described(inputs, batch)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
    return fed


def _differs(model: Timed, threads: int) -> str | None:
    if open_file(model.path, model.runtime, threads).reference is None:
        return None  # not ours: its inputs may be no images
    session = open_session(model.path, model.runtime, threads)
    return difference_here(session, model.runtime, machine())


def _against(
    first: str, name: str, runtime: str, timed: dict[str, list[Latency]], number: int
) -> Interval | None:
    if name == first:
        return None
    return speedup(first, runtime, timed[first][number], timed[name][number]).ratio
