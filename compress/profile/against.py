"""Measures two files to be compared: what `compress profile A --against B` does."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from compress.export.artifact import files_of
from compress.measure.inputs import random_inputs
from compress.measure.machine import machine, usable_threads
from compress.measure.processes import Timed
from compress.models.sessions import open_file
from compress.profile.audit import call_s, time_variants
from compress.profile.compared import compared
from compress.profile.comparison import Comparison
from compress.profile.measured import Measured
from compress.profile.network import Target, of_built, of_file, profile_of
from compress.profile.rounds import ROUNDS, time_rounds
from compress.profile.settings import Settings
from compress.profile.target import built, is_file
from compress.results.schema import Latency
from compress.utils.errors import UserError
from compress.utils.seeding import generator

Say = Callable[[str], None]


@dataclass(frozen=True)
class Other:
    """What a model is compared with."""

    model: str
    threads: int | None = None  # None: as many as the first
    runtime: str | None = None  # None: as the first was told, or by the file's format


def compare(
    model: str, other: Other, settings: Settings, say: Say = lambda text: None
) -> Comparison:
    """Find why a file (A) and another (B) do not take the same time on this machine.

    Raises:
        UserError: no network whose layers a runtime tells apart, or the same file twice.
    """
    if settings.photographs:
        raise UserError(
            "--against compares networks, and how long these take does not depend on what is on "
            "the image: leave the images out."
        )
    threads = settings.threads or usable_threads()
    of_b = replace(settings, runtime=other.runtime or settings.runtime)
    with tempfile.TemporaryDirectory() as folder:
        a = _target(model, settings, threads, Path(folder) / "a", say)
        b = _target(other.model, of_b, other.threads or threads, Path(folder) / "b", say)
        same_file = a.runtime == b.runtime and _content(a.file) == _content(b.file)
        if same_file and a.threads == b.threads:
            raise UserError(
                f"{model} and {other.model} are the same file in the same runtime with as many "
                "threads: compare it with another one, or with --against-threads or "
                "--against-runtime."
            )
        return compared(_measured(a, b, same_file, settings, say), say)


def _target(model: str, settings: Settings, threads: int, folder: Path, say: Say) -> Target:
    """Return what a model is in the runtime that runs it."""
    folder.mkdir()
    if Path(model).is_dir():
        raise UserError(
            f"{model} is the folder of a pipeline, and --against compares single networks: name "
            "the file of one of its stages."
        )
    if is_file(model):
        return of_file(Path(model), settings, threads, folder)
    say(f"Building {model}")
    network = built(model, settings.size, settings.allowed)
    if network.detector:
        raise UserError(
            f"{model} is a detector, which runs in torch, where layers are not timed one by one: "
            "--against takes what runs in onnxruntime or OpenVINO."
        )
    say("Exporting to ONNX")
    return of_built(network, settings, threads, folder)


def _content(file: Path) -> list[bytes]:
    return [part.read_bytes() for part in files_of(file)]


def _measured(a: Target, b: Target, same_file: bool, settings: Settings, say: Say) -> Measured:
    here = machine()
    # With as many threads as A, B tells what the threads explain; the same file is A then.
    like_a = [replace(b, threads=a.threads)] if a.threads != b.threads and not same_file else []
    targets = [a, b, *like_a]
    say(f"Timing the layers in {ROUNDS} rounds of {len(targets)} files")
    rounds = time_rounds(targets)
    profiles = [
        profile_of(target, its.layers, its.mean, here)
        for target, its in zip(targets, rounds, strict=True)
    ]
    return Measured(
        a=profiles[0],
        b=profiles[1],
        rounds_a=rounds[0],
        rounds_b=rounds[1],
        rounds_like_a=rounds[0] if same_file else rounds[-1],
        deployed=_deployed(a, b, settings, say),
        outputs=(_outputs(a), _outputs(b)),
    )


def _deployed(a: Target, b: Target, settings: Settings, say: Say) -> dict[str, Latency]:
    """Time both as they are deployed; with one thread, too, if they have as many to lose."""
    models = {side: Timed(x.file, x.runtime, x.threads) for side, x in (("A", a), ("B", b))}
    if a.threads == b.threads > 1:
        alone = {f"{side} alone": replace(timed, threads=1) for side, timed in models.items()}
        models |= alone
    calls_s = [
        call_s(timed, timed.threads or a.threads, settings.batch, settings.allowed)
        for timed in models.values()
    ]
    found = time_variants(models, calls_s, a.threads, settings.batch, settings.allowed, say)
    return {name: latencies[0] for name, latencies in found.items()}


def _outputs(target: Target) -> list[tuple[int, ...]]:
    """Return the shapes of what a file answers."""
    file = open_file(target.file, target.runtime, target.threads)
    arrays = random_inputs(file.inputs, target.batch, generator(0, "inputs"))
    return [answer.shape for answer in file.call(arrays)]
