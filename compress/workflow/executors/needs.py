"""What a stage needs of the node that computes it: memory, CPUs, the images."""

from collections.abc import Mapping
from pathlib import Path

from compress.workflow.cache import Stage
from compress.workflow.executors.executor import NETWORKS, measures, named, trains

COMPUTES = NETWORKS | {"teacher_outputs"}  # kinds of stages that more than one CPU pays for
PROCESS_BYTES = 512 * 2**20  # of a process that has loaded torch
KEPT_FLOATS = 10  # of each number of its input, that any network keeps while it trains
KEPT_WEIGHTS = 4  # the weights themselves, their gradients, and two means that the optimizer keeps


def reads_images(stage: Stage) -> bool:
    """Return whether a stage opens images: a node that does not see them takes them all."""
    kinds = {stage.kind, *(x.kind for x in stage.inputs.values())}
    return "data" in kinds or "fingerprint" in stage.settings


def computes(stage: Stage) -> bool:
    """Return whether a stage is one of COMPUTES, and takes no times."""
    return stage.kind in COMPUTES and not measures(stage)


def memory_of(stage: Stage, files: Mapping[str, Path]) -> int:
    """Return the bytes that a stage needs at the very least.

    Args:
        files: of weights, by what stages know them by: how large other networks are is not known
            before they are made.
    """
    batches, sizes = (list(named(stage.settings, x)) for x in ("batch_size", "image_size"))
    if stage.kind not in COMPUTES or not batches or not sizes:
        return PROCESS_BYTES
    sides = [size if isinstance(size, list) else [size, size] for size in sizes]
    numbers = max(batches) * 3 * min(height * width for height, width in sides)
    return PROCESS_BYTES + numbers * KEPT_FLOATS * 4 + _trained_bytes(stage, files)


def _trained_bytes(stage: Stage, files: Mapping[str, Path]) -> int:
    """Return the bytes of what a training keeps of each weight, where a file tells how many."""
    if not trains(stage) or any(named(stage.settings, "train_only")):
        return 0
    given = [files[x] for x in named(stage.settings, "weights") if x in files]
    sizes = [x.stat().st_size for x in given if x.suffix == ".safetensors"]
    return KEPT_WEIGHTS * max(sizes, default=0)
