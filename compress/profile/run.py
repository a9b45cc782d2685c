"""Profiles one model or pipeline: what `compress profile` does."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.measure.deployable import as_deployed
from compress.measure.layer_profile import Layer, time_layers
from compress.measure.machine import machine, usable_threads
from compress.measure.processes import Timed
from compress.models.sessions import open_session
from compress.profile.advice import advice
from compress.profile.audit import Change, audit_of
from compress.profile.blocks import in_blocks, tree
from compress.profile.records import NETWORK, Audit, Limits, Profile
from compress.profile.roofline import measure_limits
from compress.profile.target import Built, built, is_file, read_photographs
from compress.profile.variants import (
    candidate_of,
    cascade_variants,
    fewer_proposals,
    in_torch,
    other_runtimes,
    saved_in,
)
from compress.profile.warnings import notes
from compress.results.schema import Machine
from compress.runtimes import package_of, runtime_for
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from compress.cascade.cascade import Cascade
    from compress.profile import cascade as pipeline_times

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a model is profiled."""

    threads: int | None = None  # None: all that may be used
    photographs: Sequence[Path] = ()  # for pipelines
    size: int | None = None  # pixels, for models that leave it free
    batch: int = 1
    audit: bool = True
    allowed: Sequence[str] = ()


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
    file = as_deployed(path, job.settings.size, job.settings.batch, folder)
    runtime = runtime_for(file)
    base = Timed(file, runtime)
    audit = (base, runtime, [*other_runtimes(job.machine, file, runtime)])
    return _layer_by_layer(job, path.name, file, runtime, False, audit)


def _of_built(job: _Job, network: Built, folder: Path) -> Profile:
    from compress.export.onnx import export_onnx
    from compress.models.trial import check_forward

    check_forward(network.model, network.spec, network.builder)
    saved, file = saved_in(folder / "torch", network), folder / "model.onnx"
    job.say("Exporting to ONNX")
    export_onnx(candidate_of(network), file)
    base = Timed(saved, "torch-contiguous")
    changes = [
        *in_torch(job.machine, saved),
        Change("in onnxruntime", Timed(file, "onnxruntime")),
        *other_runtimes(job.machine, file, "onnxruntime"),
    ]
    audit = (base, "torch eager", changes)
    return _layer_by_layer(job, job.model, file, "onnxruntime", True, audit)


def _layer_by_layer(
    job: _Job,
    name: str,
    file: Path,
    runtime: str,
    random_weights: bool,
    audit: tuple[Timed, str, Sequence[Change]],
) -> Profile:
    batch = job.settings.batch
    job.say(f"Timing the layers in {runtime}")
    layers, timing = time_layers(file, runtime, job.threads, batch)
    layers = in_blocks(layers)
    job.say("Measuring the machine's limits")
    session = open_session(file, runtime, job.threads)
    height, width = session.image_size
    return Profile(
        model=name,
        runtime=runtime,
        runtime_version=job.machine.versions[runtime],
        random_weights=random_weights,
        threads=job.threads,
        batch=batch,
        channels=session.channels or 3,
        height=height,
        width=width,
        machine=job.machine,
        whole_s=timing.whole_s,
        profiled_s=timing.profiled_s,
        disturbance_cores=timing.disturbance_cores,
        # Where the calls with the profile were faster, by chance, theirs are the gaps.
        root=tree(name, layers, min(timing.whole_s, timing.profiled_s)),
        layers=layers,
        limits=_limits(layers, job.threads),
        audit=job.audit(*audit),
    )


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
    if settings.size is not None or settings.batch != 1:
        raise UserError(
            "--size and --batch are for single models: a pipeline takes one photograph at a time, "
            "and its networks say what size they take."
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
