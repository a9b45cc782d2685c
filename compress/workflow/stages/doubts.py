"""Whether the teacher is asked rightly: judged on labelled images, before anything builds on it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.dataset import Dataset
from compress.data.image_cache import Decoded
from compress.export.artifact import Artifact
from compress.methods.context import Context
from compress.metrics.keypoints import KeypointTolerance
from compress.models.sessions import infer, open_session
from compress.results.schema import Runtime
from compress.runtimes import Session
from compress.runtimes.outputs import joined
from compress.tasks import task_of
from compress.tasks.base import Task
from compress.utils.files import write_text
from compress.workflow.cache import Stage
from compress.workflow.doubts import (
    MUCH,
    Scores,
    of_feeding,
    of_guessing,
    of_order,
    scores,
)
from compress.workflow.stages import accuracy

KIND = "doubts"
VERSION = 1
FILE = "doubts.json"
FED = 64  # labelled images that are fed in each usual way
BATCH = 16


def plan(runtime: Runtime, given: bool, data: Stage, artifact: Stage, judged: Stage) -> Stage:
    """All else that it depends on, its accuracy depends on as well.

    Args:
        given: whether its weights come from outside: in what order its classes are, and what it was
            fed, are then unknown.
        judged: the stage that measured its accuracy in this runtime.
    """
    inputs = {"data": data, "artifact": artifact, "accuracy": judged}
    settings = {"runtime": runtime, "given": given}
    return Stage(KIND, "teacher: doubts", VERSION, settings, inputs, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    artifact = Artifact.load(inputs["artifact"])
    data, spec = context.data(inputs["data"]), artifact.spec
    scored, task = accuracy.load(inputs["accuracy"]), task_of(spec)
    given = stage.settings["given"]
    guess = task.guess(data, context.tolerance)
    share = 0.0 if guess is None else guess[1]
    said = [] if guess is None else [*of_guessing(scored, guess, task.order_of, given)]
    if given and task.order_of == "classes":
        targets = task.targets(data)[data.indices("validation")]
        said += of_order(scored, targets, spec, share)
    if given and scored.top1.value + MUCH <= 1:
        session = open_session(
            artifact.path, stage.settings["runtime"], context.threads, context.allowed
        )
        pixels = context.pixels(data, inputs["data"])
        said += _of_feeding(session, data, pixels, task, context.tolerance, share)
    write_text(folder / FILE, json.dumps(said))


def _of_feeding(
    session: Session,
    data: Dataset,
    pixels: Decoded,
    task: Task[Any],
    tolerance: KeypointTolerance,
    share: float,
) -> Iterator[str]:
    """Yield by which usual feeding the teacher's file would be far better, if by any.

    Args:
        share: that a guess reaches.
    """
    spec, labelled = task.spec, data.indices("validation", "train")
    chosen = labelled[np.linspace(0, len(labelled) - 1, min(FED, len(labelled))).astype(int)]
    judge, size = task.judge(data, chosen, tolerance), session.batch_size or BATCH

    def score(prepared: np.ndarray) -> Scores:
        starts = range(0, len(prepared), size)
        outputs = joined([infer(session, prepared[i : i + size], spec) for i in starts])
        return scores(task, judge, outputs)

    return of_feeding(pixels.of(chosen, spec), spec, score, task.word, share)


def load(folder: Path) -> list[str]:
    """Return the doubts, a sentence or two each."""
    said: list[str] = json.loads((folder / FILE).read_text("utf-8"))
    return said
