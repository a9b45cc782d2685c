"""Profiles one model: what `compress profile` does."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.measure.conditions import QUIET_CORES
from compress.measure.kernels import time_kernels
from compress.measure.machine import machine, usable_threads
from compress.measure.processes import Timed
from compress.profile.advice import advice
from compress.profile.audit import Change, audit_of
from compress.profile.blocks import in_blocks, tree
from compress.profile.layers import layers_of
from compress.profile.limits import measure_limits
from compress.profile.network import read_network
from compress.profile.records import Audit, Profile
from compress.profile.target import Built, as_deployed, built, is_file
from compress.profile.variants import (
    candidate_of,
    fewer_proposals,
    in_torch,
    other_runtimes,
    saved_in,
)
from compress.results import Machine
from compress.runtimes import open_session, runtime_for

DISTURBED_S = 2e-5  # longer a layer than without a profile: no clock takes that long
OFF = 0.05  # share by which the parts may miss the whole without a word

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a model is profiled."""

    threads: int | None = None  # None: all that may be used
    size: int | None = None  # pixels, for models that leave it free
    batch: int = 1
    audit: bool = True
    allowed: Sequence[str] = ()


def profile(model: str, settings: Settings, say: Say = lambda text: None) -> Profile:
    """Where the time of an ONNX file, an OpenVINO model or a builder's network goes.

    A network of a builder has random weights; a classifier is exported to ONNX and profiled in
    onnxruntime, a detector in torch eager.

    Args:
        say: is told what is being done.

    Raises:
        UserError: no such model, or one that cannot be run.
    """
    with tempfile.TemporaryDirectory() as name:
        job = _Job(model, settings, settings.threads or usable_threads(), machine(), say)
        if is_file(model):
            found = _of_file(job, Path(model), Path(name))
        else:
            say(f"Building {model}")
            network = built(model, settings.size, settings.allowed)
            found = (_of_detector if network.detector else _of_built)(job, network, Path(name))
    return found.model_copy(update={"advice": advice(found), "notes": _notes(found)})


@dataclass(frozen=True)
class _Job:
    model: str
    settings: Settings
    threads: int
    machine: Machine
    say: Say

    def audit(self, base: Timed, base_says: str, changes: Sequence[Change]) -> Audit | None:
        """None where the user wants none."""
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
        )


def _of_file(job: _Job, path: Path, folder: Path) -> Profile:
    file = as_deployed(path, job.settings.size, job.settings.batch, folder)
    runtime = runtime_for(file)
    base = Timed(file, runtime)
    audit = (base, runtime, [*other_runtimes(job.machine, file, runtime)])
    return _layer_by_layer(job, path.name, file, runtime, False, audit)


def _of_built(job: _Job, network: Built, folder: Path) -> Profile:
    from compress.candidate import check_forward
    from compress.export import export_onnx

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
    nodes = read_network(file, batch)
    timing = time_kernels(file, runtime, job.threads, batch)
    layers = in_blocks(layers_of(nodes, timing))
    job.say("Measuring the machine's limits")
    largest = max((layer.activation_bytes for layer in layers), default=0)
    working_set = largest + sum(layer.weight_bytes for layer in layers)
    precisions = {layer.precision for layer in layers if layer.macs} | {"float32", "int8"}
    height, width = open_session(file, runtime, job.threads).picture_size
    return Profile(
        model=name,
        runtime=runtime,
        runtime_version=job.machine.versions[runtime],
        random_weights=random_weights,
        threads=job.threads,
        batch=batch,
        height=height,
        width=width,
        machine=job.machine,
        whole_s=timing.whole_s,
        profiled_s=timing.profiled_s,
        disturbance_cores=timing.disturbance_cores,
        # Where the calls with the profile were faster, by chance, theirs are the gaps.
        root=tree(name, layers, min(timing.whole_s, timing.profiled_s)),
        layers=layers,
        limits=measure_limits(sorted(precisions), job.threads, working_set),
        audit=job.audit(*audit),
    )


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


def _notes(found: Profile) -> list[str]:
    """What casts doubt on the numbers."""
    notes = []
    cost = found.profiled_s / found.whole_s - 1
    if cost > OFF and found.layers:
        each_s = (found.profiled_s - found.whole_s) / len(found.layers)
        taken = "first what is between the layers, then the same from each layer"
        if each_s > DISTURBED_S:
            taken = "more than reading clocks costs, so that the layers' times are rough"
        notes.append(
            f"With the runtime's profile a call took {100 * cost:.0f} % longer than without "
            f"({1e6 * each_s:.1f} µs a layer). That was taken off: {taken}."
        )
    share = found.root.seconds / found.whole_s
    if abs(share - 1) > OFF:
        notes.append(
            f"The parts add up to {100 * share:.0f} % of a call that is timed as a whole: the "
            "machine was not the same in both. Measure again."
        )
    for what, cores in (
        ("the parts", found.disturbance_cores),
        ("the variants", found.audit.disturbance_cores if found.audit else 0.0),
    ):
        if cores > QUIET_CORES:
            notes.append(
                f"Other programs used up to {cores:.1f} cores while {what} were timed: stop them "
                "and measure again."
            )
    if found.random_weights and not found.layers:
        notes.append(
            "How many boxes there are depends on the weights. With random weights, on noise, there "
            "are about as many proposals as allowed, but hardly a box passes the last threshold: "
            "trained heads give non-maximum suppression more to do."
        )
    return notes
