"""Accuracy of an artifact on the validation split, computed in its runtime from picture files."""

from pathlib import Path
from typing import Any

import numpy as np

from compress.export.artifact import Artifact
from compress.measure.inference import run_on_pictures
from compress.methods.context import Context
from compress.metrics.accuracy import score
from compress.metrics.keypoints import KeypointTolerance
from compress.models.sessions import open_session
from compress.results.schema import Accuracy, Machine, Runtime, SinglePictureClasses
from compress.runtimes import package_of
from compress.tasks.correctness import score_points
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
    session = open_session(
        artifact.path, stage.settings["runtime"], context.threads, context.allowed
    )

    singles = data.single_picture_indices
    single_picture = None
    if len(singles):
        logits = run_on_pictures(session, data.paths(singles), artifact.spec)
        single_picture = SinglePictureClasses(
            pictures=len(singles),
            in_training=int(np.isin(singles, data.indices("train")).sum()),
            top1=float((logits.argmax(1) == data.labels[singles]).mean()),
        )
    validation = data.indices("validation")
    logits = run_on_pictures(session, data.paths(validation), artifact.spec)
    if artifact.spec.points:
        accuracy = score_points(logits, data, validation, artifact.spec, context.tolerance)
    else:
        trained_on = data.labels[data.indices("train")]
        accuracy = score(logits, data.labels[validation], single_picture, trained_on)
    context.progress.note(
        f"{accuracy.word} {accuracy.top1.value:.1%} of {accuracy.pictures} validation pictures"
    )
    write_text(folder / FILE, accuracy.model_dump_json())


def load(folder: Path) -> Accuracy:
    return Accuracy.model_validate_json((folder / FILE).read_text("utf-8"))
