"""Profiles one model or pipeline: what `compress profile` does."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.measure.layer_profile import Layer, time_layers
from compress.measure.machine import machine, usable_threads
from compress.measure.processes import Timed
from compress.profile.advice import advice
from compress.profile.audit import Change, audit_of
from compress.profile.network import Target, of_built, of_file, profile_of
from compress.profile.records import NETWORK, Audit, Limits, Profile
from compress.profile.roofline import measure_limits
from compress.profile.settings import Settings
from compress.profile.target import Built, built, is_file, read_photographs
from compress.profile.variants import (
    cascade_variants,
    fewer_proposals,
    in_torch,
    other_runtimes,
    saved_in,
)
from compress.profile.warnings import notes
from compress.results.schema import Machine
from compress.runtimes import package_of
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from compress.cascade.cascade import Cascade
    from compress.profile import cascade as pipeline_times

Say = Callable[[str], None]


def profile(model: str, settings: Settings, say: Say = lambda text: None) -> Profile:
    """Find where the time of an ONNX or OpenVINO file, a builder's network or a pipeline goes.

    A network of a builder has random weights; a classifier is exported to ONNX and profiled in
    onnxruntime, a detector in torch eager.

    Args:
        say: is told what is being done.

    Raises:
        UserError: no such model, one that cannot be run, or settings that are not for its kind.
    """
    pipeline = Path(model).is_dir()
    if settings.photographs and not pipeline:
        raise UserError(
            f"{model} is one model, and how long that takes does not depend on what is on the "
            "image: leave the images out. They are for the folder of a pipeline."
        )
    with tempfile.TemporaryDirectory() as name:
        job = _Job(model, settings, settings.threads or usable_threads(), machine(), say)
        if pipeline:
            found = _of_pipeline(job, Path(model), Path(name))
        elif is_file(model):
            found = _of_file(job, Path(model), Path(name))
        else:
            say(f"Building {model}")
            network = built(model, settings.size, settings.allowed)
            if network.detector and settings.runtime is not None:
                raise UserError(f"{model} is a detector, which runs in torch: leave --runtime out.")
            found = (_of_detector if network.detector else _of_built)(job, network, Path(name))
    return found.model_copy(update={"advice": advice(found), "notes": notes(found)})


@dataclass(frozen=True)
class _Job:
    model: str
    settings: Settings
    threads: int
    machine: Machine
    say: Say

    def audit(self, base: Timed, base_says: str, changes: Sequence[Change]) -> Audit | None:
        """Audit libraries and variants; return None where the user wants none."""
        if not self.settings.audit:
            return None
        alone = Timed(base.path, base.runtime, threads=1)
        more = Change(f"{self.threads} threads instead of 1", alone, undone=True)
        return audit_of(
            base,
            base_says,
            [*changes, *([more] if self.threads > 1 else [])],
            self.machine,
            self.threads,
            self.settings.batch,
            self.settings.allowed,
            self.say,
            self.settings.photographs,
        )


def _of_file(job: _Job, path: Path, folder: Path) -> Profile:
    target = of_file(path, job.settings, job.threads, folder)
    base = Timed(target.file, target.runtime)
    changes = other_runtimes(job.machine, target.file, target.runtime)
    return _layer_by_layer(job, target, (base, target.runtime, changes))


def _of_built(job: _Job, network: Built, folder: Path) -> Profile:
    saved = saved_in(folder / "torch", network)
    job.say("Exporting to ONNX")
    target = of_built(network, job.settings, job.threads, folder)
    base = Timed(saved, "torch-contiguous")
    changes = [
        *in_torch(job.machine, saved),
        Change(f"in {target.runtime}", Timed(target.file, target.runtime)),
        *other_runtimes(job.machine, target.file, target.runtime),
    ]
    return _layer_by_layer(job, target, (base, "torch eager", changes))


def _layer_by_layer(
    job: _Job, target: Target, audit: tuple[Timed, str, Sequence[Change]]
) -> Profile:
    job.say(f"Timing the layers in {target.runtime}")
    layers, timing = time_layers(target.file, target.runtime, target.threads, target.batch)
    job.say("Measuring the machine's limits")
    found = profile_of(target, layers, timing, job.machine)
    limits = _limits(found.layers, job.threads)
    return found.model_copy(update={"limits": limits, "audit": job.audit(*audit)})


def _limits(layers: Sequence[Layer], threads: int, more_bytes: int = 0) -> Limits:
    """Measure the limits of the layers' precisions, and of memory with what a call goes through."""
    largest = max((layer.activation_bytes for layer in layers), default=0)
    working_set = largest + sum(layer.weight_bytes for layer in layers) + more_bytes
    precisions = {layer.precision for layer in layers if layer.macs} | {"float32", "int8"}
    return measure_limits(sorted(precisions), threads, working_set)


def _of_detector(job: _Job, network: Built, folder: Path) -> Profile:
    from compress.profile.detector import time_detector

    size = network.spec.height
    job.say("Timing the parts in torch eager")
    timing = time_detector(network.model, size, job.settings.batch, job.threads)
    job.say("Measuring the machine's limits")
    weights = sum(p.numel() * p.element_size() for p in network.model.parameters())
    saved = saved_in(folder / "torch", network)
    changes = in_torch(job.machine, saved)
    changes += fewer_proposals(network, folder / "fewer")
    return Profile(
        model=job.model,
        runtime="torch eager",
        runtime_version=job.machine.versions["torch"],
        random_weights=True,
        threads=job.threads,
        batch=job.settings.batch,
        height=size,
        width=size,
        machine=job.machine,
        whole_s=timing.whole_s,
        profiled_s=timing.root.seconds,
        disturbance_cores=timing.disturbance_cores,
        root=timing.root,
        limits=measure_limits(["float32"], job.threads, weights),
        audit=job.audit(Timed(saved, "torch-contiguous"), "torch eager", changes),
    )


def _of_pipeline(job: _Job, folder: Path, temporary: Path) -> Profile:
    from compress.cascade.cascade import Cascade
    from compress.profile.cascade import time_cascade, tree_of

    settings = job.settings
    cascade = Cascade.load(folder, job.threads, tuple(settings.allowed))
    if settings.size is not None or settings.batch != 1 or settings.runtime is not None:
        raise UserError(
            "--size, --batch and --runtime are for single models: a pipeline takes one photograph "
            "at a time, and its networks say what size they take and what runs them."
        )
    photographs, (width, height) = read_photographs(folder, settings.photographs)
    job.say("Timing the stages")
    timing = time_cascade(cascade, photographs)
    found = _networks(job, cascade, timing, folder, temporary)
    layers = [layer for x in found for layer in x.layers]
    networks = [x.network for x in found]
    name = folder.resolve().name
    runtimes = list(dict.fromkeys(x.runtime for x in networks))
    runtime = " and ".join(runtimes)
    job.say("Measuring the machine's limits")
    elsewhere = cascade_variants(job.machine, folder, temporary)
    return Profile(
        model=name,
        runtime=runtime,
        runtime_version=" and ".join(job.machine.versions[package_of(x)] for x in runtimes),
        random_weights=False,
        threads=job.threads,
        batch=1,
        height=height,
        width=width,
        machine=job.machine,
        whole_s=timing.whole_s,
        profiled_s=timing.clocked_s,
        disturbance_cores=max(timing.disturbance_cores, *(x.disturbance_cores for x in found)),
        root=tree_of(name, timing, {x.network.stage: x.part for x in found}),
        layers=layers,
        photographs=len(photographs),
        networks=networks,
        limits=_limits(layers, job.threads, more_bytes=3 * height * width),
        audit=job.audit(Timed(folder, runtime), runtime, elsewhere),
    )


def _networks(
    job: _Job,
    cascade: "Cascade",
    timing: "pipeline_times.Timing",
    folder: Path,
    temporary: Path,
) -> "list[pipeline_times.Inside]":
    """Time the layers of each network of a pipeline."""
    from compress.profile.cascade import inside, part_name

    found = []
    for number, network in enumerate(cascade.networks):
        stage = network.stage
        job.say(f"Timing the layers of the {stage.name}'s network")
        file, copies = folder / stage.model, temporary / str(number)
        copies.mkdir()
        seconds = timing.parts_s[part_name(stage.name, NETWORK)]
        found.append(inside(network, file, job.threads, seconds, copies))
    return found
