"""Accuracy of an artifact on the validation split, computed in its runtime from picture files."""

from pathlib import Path
from typing import Any

import numpy as np

from compress.artifact import Artifact
from compress.context import Context
from compress.files import write_text
from compress.measure.accuracy import run_on_pictures, score, score_points
from compress.measure.points import Bounds
from compress.results import Accuracy, Machine, SinglePictureClasses
from compress.runtimes import Runtime, open_session, package_of
from compress.stage import Stage

VERSION = 2  # 2: answers, calibration, slices
FILE = "accuracy.json"


def plan(
    name: str,
    runtime: Runtime,
    machine: Machine,
    data: Stage,
    artifact: Stage,
    bounds: Bounds | None = None,
) -> Stage:
    """Accuracy depends on the runtime's version, and int8's on the CPU's instructions.

    Args:
        bounds: how near points must be to be right; None where classes are predicted.
    """
    described: dict[str, Any] = {
        "runtime": runtime,
        "version": machine.versions.get(package_of(runtime)),
        "cpu_flags": machine.cpu_flags,
    }
    if bounds is not None:
        described["bounds"] = bounds._asdict()
    title = f"{name}: accuracy in {runtime}"
    return Stage("accuracy", title, VERSION, described, {"data": data, "artifact": artifact})


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
        accuracy = score_points(logits, data, validation, artifact.spec, context.bounds)
    else:
        trained_on = data.labels[data.indices("train")]
        accuracy = score(logits, data.labels[validation], single_picture, trained_on)
    context.progress.note(
        f"{accuracy.word} {accuracy.top1.value:.1%} of {accuracy.pictures} validation pictures"
    )
    write_text(folder / FILE, accuracy.model_dump_json())


def load(folder: Path) -> Accuracy:
    return Accuracy.model_validate_json((folder / FILE).read_text("utf-8"))
