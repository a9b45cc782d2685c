"""One step of a candidate: what is made of it anywhere, what measuring decides, what follows.

Up to three stages, so that training depends on what was decided and not on the machine:
`prepare` (training for int8 or signs, ranges), `decide` (widths, ranks, which layers are int8),
and the step itself.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.methods import discover
from compress.methods.base import Method
from compress.methods.context import Context, StepInputs
from compress.methods.decided import Decided
from compress.metrics.keypoints import KeypointTolerance
from compress.models.builders import identity
from compress.models.weight_sources import fingerprint, is_file
from compress.training.loop import finish
from compress.training.settings import TRAINING_VERSION
from compress.workflow.cache import DECIDE, MEASURED_ON, Stage
from compress.workflow.stages import teacher_outputs

VERSION = 1
OUTPUTS, TAUGHT_BY = "teacher_outputs", "taught_by"  # roles of inputs; of several, numbered


@dataclass(frozen=True)
class Basis:
    """What all steps of a recipe build on."""

    data: Stage
    teacher: Stage
    teacher_artifact: Stage  # in onnxruntime: what is decided by times is compared with it
    tolerance: KeypointTolerance | None  # how near is right; None: a class is right or not
    measured_on: dict[str, Any]  # the machine, its flags and how many threads
    seed: int
    allowed: Sequence[str]


def plan(
    title: str,
    kind: str,
    settings: Any,
    basis: Basis,
    previous: Stage,
    teachers: Sequence[Stage] = (),
) -> Stage:
    """The step after `previous`, with the stages before it that are its own.

    Args:
        teachers: networks that it learns from; none: the recipe's teacher.
    """
    method = discover()[kind]
    # Whether there is a control beside it changes nothing in what the step makes.
    described = _described(method, settings.in_key(exclude={"control"}), basis)
    if student := method.student(settings):
        described["code"] = identity(student.builder, basis.allowed)
        if student.weights is not None and is_file(student.weights):
            described["settings"]["weights"] = fingerprint(Path(student.weights))
    inputs = {"data": basis.data, "teacher": basis.teacher, "previous": previous}
    learns = dict(inputs)
    if views := method.view_settings(settings):
        for number, teacher in enumerate(teachers or [basis.teacher]):
            learns[_role(OUTPUTS, number)] = teacher_outputs.plan(
                views, basis.seed, basis.data, teacher
            )
    else:
        learns |= {_role(TAUGHT_BY, n): teacher for n, teacher in enumerate(teachers)}
    if method.prepares:
        first = f"{title}, prepared"
        looked_at = settings.in_key(include=set(method.prepared))
        if "weights" in looked_at:  # a file's contents, as above
            looked_at["weights"] = described["settings"]["weights"]
        prepared = described | {"settings": looked_at}
        inputs["previous"] = Stage("prepare", first, VERSION, prepared, learns, prepare)
    else:
        inputs = learns
    if basis.tolerance is not None and method.judges:
        described["bounds"] = basis.tolerance.described()
    if method.decides:
        here = {MEASURED_ON: basis.measured_on} if method.decides_by_times(settings) else {}
        against = inputs | {"teacher_artifact": basis.teacher_artifact}
        decided = Stage(DECIDE, f"{title}, decided", VERSION, described | here, against, decide)
        inputs = inputs | {"decision": decided}
    if method.measures:
        described |= {MEASURED_ON: basis.measured_on}
    return Stage("step", title, VERSION, described, inputs, run)


def _role(name: str, number: int) -> str:
    """Return what an input is called that may be one of several."""
    return f"{name}_{number}" if number else name


def _numbered(inputs: dict[str, Path], name: str) -> tuple[Path, ...]:
    """Return all inputs of a role, in order."""
    roles = (_role(name, number) for number in range(len(inputs)))
    return tuple(inputs[role] for role in roles if role in inputs)


def _described(method: Method[Any], settings: dict[str, Any], basis: Basis) -> dict[str, Any]:
    return {
        "step": method.name,
        "step_version": method.version,
        "training_version": TRAINING_VERSION,
        "settings": settings,
        "seed": basis.seed,
    }


def prepare(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Do what the step can do before anything is measured."""
    method, settings = _method(stage)
    candidate = method.prepare(_given(inputs, folder, context), settings, context)
    if candidate.deployed is not None:  # a network that is a file travels with its weights
        shutil.copyfile(inputs["previous"] / candidate.deployed, folder / candidate.deployed)
    candidate.save(folder, stage.settings, inputs)
    finish(folder)


def decide(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Decide what the step will do: what pays on this machine, where it measures."""
    method, settings = _method(stage)
    method.decide(_given(inputs, folder, context), settings, context).save(folder)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Do the step."""
    method, settings = _method(stage)
    candidate = method.apply(_given(inputs, folder, context), settings, context)
    candidate.save(folder, stage.settings, inputs)
    finish(folder)


def _method(stage: Stage) -> tuple[Method[Any], Any]:
    """Return the method that a stage belongs to, and its settings."""
    method = discover()[stage.settings["step"]]
    # A stage makes one model; the plan made the control another.
    described = stage.settings["settings"] | {"control": False}
    return method, method.settings.from_key(described)


def _given(inputs: dict[str, Path], folder: Path, context: Context) -> StepInputs:
    """Return what a step works on."""
    data = context.data(inputs["data"])
    decided = inputs.get("decision")
    return StepInputs(
        data=data,
        pixels=context.pixels(data, inputs["data"]),
        previous=inputs["previous"],
        teacher_folder=inputs["teacher"],
        teacher_outputs=_numbered(inputs, OUTPUTS),
        taught_by=_numbered(inputs, TAUGHT_BY),
        teacher_artifact=inputs.get("teacher_artifact"),
        decided=Decided.load(decided).content if decided else None,
        folder=folder,
        allowed=context.allowed,
    )
