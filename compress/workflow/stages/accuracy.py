"""Accuracy of an artifact on the validation split, computed in its runtime."""

from pathlib import Path
from typing import Any

import numpy as np

from compress.export.artifact import Artifact
from compress.measure.inference import run_on_decoded
from compress.methods.context import Context
from compress.metrics.keypoints import KeypointTolerance
from compress.models.sessions import open_session
from compress.results.schema import Accuracy, Machine, Metric, Runtime
from compress.runtimes import package_of
from compress.runtimes.outputs import Outputs
from compress.tasks import task_of
from compress.utils.files import write_text
from compress.workflow.cache import Stage

VERSION = 2  # 2: answers, calibration, slices
FILE = "accuracy.json"


def plan(
    name: str,
    runtime: Runtime,
    machine: Machine,
    data: Stage,
    artifact: Stage,
    tolerance: KeypointTolerance | None = None,
) -> Stage:
    """Accuracy depends on the runtime's version, and int8's on the CPU's instructions.

    Args:
        tolerance: how near points must be to be right; None where classes are predicted.
    """
    described: dict[str, Any] = {
        "runtime": runtime,
        "version": machine.versions.get(package_of(runtime)),
        "cpu_flags": machine.cpu_flags,
    }
    if tolerance is not None:
        described["bounds"] = tolerance.described()
    title = f"{name}: accuracy in {runtime}"
    inputs = {"data": data, "artifact": artifact}
    return Stage("accuracy", title, VERSION, described, inputs, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    artifact = Artifact.load(inputs["artifact"])
    data = context.data(inputs["data"])
    pixels = context.pixels(data, inputs["data"])
    session = open_session(
        artifact.path, stage.settings["runtime"], context.threads, context.allowed
    )

    def ask(indices: np.ndarray) -> Outputs:
        return run_on_decoded(session, pixels, indices, artifact.spec)

    validation = data.indices("validation")
    task = task_of(artifact.spec)
    accuracy = task.score(ask, data, validation, context.tolerance, in_run=True)
    context.progress.note(
        f"{accuracy.word} {accuracy.top1.value:.1%} of {accuracy.images} validation images"
    )
    if data.watched != "validation":
        tuned = task.score(ask, data, data.indices(data.watched), context.tolerance, in_run=False)
        metric = Metric.share(
            f"{accuracy.word} to tune by %",
            tuned.top1,
            f"of {tuned.images} images kept from training: settings may be chosen by it.",
        )
        accuracy = accuracy.model_copy(update={"further": [*accuracy.further, metric]})
    write_text(folder / FILE, accuracy.model_dump_json())


def load(folder: Path) -> Accuracy:
    return Accuracy.model_validate_json((folder / FILE).read_text("utf-8"))
