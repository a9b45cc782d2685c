"""One network as the runtime gets it, and the profile that its layers' times make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.measure.deployable import as_deployed
from compress.measure.inputs import described, shapes_of
from compress.measure.kernels import Timing
from compress.measure.layer_profile import Layer
from compress.models.onnx_faults import refuse_training
from compress.models.sessions import open_file
from compress.profile.blocks import in_blocks, tree
from compress.profile.records import Profile
from compress.profile.settings import Settings
from compress.profile.target import Built
from compress.profile.variants import candidate_of
from compress.results.schema import Machine
from compress.runtimes import FLOATS, Entry, package_of, runtime_for, runtime_named, tells_kernels
from compress.runtimes.images import BYTES, layout_of
from compress.utils.errors import UserError


@dataclass(frozen=True)
class Target:
    """A file in a runtime with so many threads."""

    name: str  # as the user calls it
    file: Path
    runtime: str
    threads: int
    batch: int
    random_weights: bool = False


def of_file(path: Path, settings: Settings, threads: int, folder: Path) -> Target:
    """Return a user's file in the form that a profile needs, a copy in `folder` if need be."""
    refuse_training(path)
    file = as_deployed(path, settings.size, settings.batch, folder)
    runtime = _known(settings.runtime) or runtime_for(file)
    return Target(path.name, file, runtime, threads, settings.batch)


def of_built(network: Built, settings: Settings, threads: int, folder: Path) -> Target:
    """Export a builder's network, with random weights, into `folder`."""
    from compress.export.onnx import export_onnx
    from compress.models.trial import check_forward

    runtime, file = _known(settings.runtime) or "onnxruntime", folder / "model.onnx"
    check_forward(network.model, network.spec, network.builder)
    export_onnx(candidate_of(network), file)
    return Target(network.builder, file, runtime, threads, settings.batch, random_weights=True)


def _known(runtime: str | None) -> str | None:
    """Return the runtime.

    Raises:
        UserError: there is none of that name, or it does not tell kernels.
    """
    if runtime is not None and not tells_kernels(runtime_named(runtime).name):
        raise UserError(f"{runtime} does not tell how long its kernels take.")
    return runtime


def _image(
    inputs: Sequence[Entry], shapes: Sequence[tuple[int, ...]]
) -> tuple[int, int | None, int | None]:
    """Return channels, height and width of the only input; no size where it is no image."""
    if len(inputs) != 1 or len(shapes[0]) != 4 or inputs[0].dtype not in (*FLOATS, BYTES):
        return 3, None, None
    if layout_of(inputs[0].shape) == "nhwc":
        _, height, width, channels = shapes[0]
    else:
        _, channels, height, width = shapes[0]
    return channels, height, width


def profile_of(
    target: Target, layers: Sequence[Layer], timing: Timing, machine: Machine
) -> Profile:
    """Return the profile of a network whose layers were timed; limits and advice are not in it."""
    inputs = open_file(target.file, target.runtime, target.threads).inputs
    shapes = shapes_of(inputs, target.batch)
    channels, height, width = _image(inputs, shapes)
    if any(shape and shape[0] != target.batch for shape in shapes):
        # Work is counted as if all inputs had the batch first.
        layers = [layer.model_copy(update={"macs": layer.macs and None}) for layer in layers]
    layers = in_blocks(layers)
    return Profile(
        model=target.name,
        runtime=target.runtime,
        runtime_version=machine.versions[package_of(target.runtime)],
        random_weights=target.random_weights,
        threads=target.threads,
        batch=target.batch,
        channels=channels,
        height=height,
        width=width,
        fed="" if height else described(inputs, target.batch),
        machine=machine,
        whole_s=timing.whole_s,
        profiled_s=timing.profiled_s,
        disturbance_cores=timing.disturbance_cores,
        # Where the calls with the profile were faster, by chance, theirs are the gaps.
        root=tree(target.name, layers, min(timing.whole_s, timing.profiled_s)),
        layers=layers,
    )
