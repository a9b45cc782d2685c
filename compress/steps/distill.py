"""Distil the teacher into a student network, or into what the steps before left of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.training.distillation_settings import Distillation, ViewSettings

if TYPE_CHECKING:
    from torch import nn

    from compress.candidate import Candidate
    from compress.context import Context, StepInputs

VERSION = 1
NO_TEACHER, FROM_SCRATCH = "no teacher", "from scratch"


class Settings(Distillation):
    """A student, its schedule, and how it learns from the teacher.

    Without a `student` the network that the steps before it made (pruned, factorized) is trained.
    """

    student: str | None = None
    student_settings: dict[str, Any] = {}
    image_size: Annotated[int, Field(ge=8, le=2048)] | None = None  # none: as before
    # Also train on the same schedule: a student without a teacher, a pruned network from scratch.
    control: bool = True
    learn_from: Literal["teacher", "labels"] = "teacher"
    start_from: Literal["weights", "scratch"] = "weights"  # of the network that was there before

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.student is not None and self.image_size is None:
            raise ValueError("a student needs an image_size")
        if self.student is None and self.student_settings:
            raise ValueError("student_settings are for a student: name one, or remove them")
        if self.learn_from == "labels" and self.control:
            raise ValueError("learn_from: labels is the control itself: set control: false")
        if self.train.mixup > 0 and self.learn_from == "teacher":
            raise ValueError("mixup makes pictures that the teacher was not asked about")
        return self


def replaces_model(settings: Settings) -> bool:
    """Whether the step starts from a network of its own, so that it can only come first."""
    return settings.student is not None


def controls(settings: Settings) -> dict[str, Settings]:
    """A student: the same one on the same schedule, learning from the labels. A network that was
    there before: the same shape with fresh weights, trained alike (Liu et al. 2019,
    arXiv:1810.05270: often the kept weights are worth nothing)."""
    if not settings.control:
        return {}
    if settings.student is None:
        scratch = {"start_from": "scratch", "control": False}
        return {FROM_SCRATCH: settings.model_copy(update=scratch)}
    # What only a teacher's student depends on goes back to its default: one control serves all.
    unused = ("loss", "hard_weight", "teacher_outputs", "views", "top_k", "teacher_precision")
    update = {name: Settings.model_fields[name].default for name in unused}
    update |= {"learn_from": "labels", "control": False}
    return {NO_TEACHER: settings.model_copy(update=update)}


def view_settings(settings: Settings) -> ViewSettings | None:
    """What must be cached before this step can run; None if nothing."""
    return None if settings.learn_from == "labels" else settings.view_settings()


def check(
    settings: Settings,
    before: "Callable[[], nn.Module] | None",
    build: "Callable[[str, dict[str, Any]], nn.Module]",
) -> None:
    """Refuses a student that cannot be built, or that only `binarize` can deploy.

    Args:
        build: makes a student of a builder's name and settings.

    Raises:
        UserError: what is wrong with the student.
    """
    from compress.binarization import binary_layers
    from compress.errors import UserError

    if settings.student is None:
        return
    if binary_layers(build(settings.student, settings.student_settings)):
        raise UserError(
            f"distill: {settings.student} has binary layers: train it with the step binarize, "
            "which deploys them as popcounts, or in float with student_settings: {binary: false}."
        )


def apply(inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
    """Trains the network on the teacher's logits, or as a student's control on the labels."""
    from compress.candidate import Candidate
    from compress.training.distillation import distil

    from_teacher = settings.learn_from == "teacher"
    how = f"distil {settings.loss.name}" if from_teacher else NO_TEACHER
    if settings.student is None:
        how += f", {FROM_SCRATCH}" if settings.start_from == "scratch" else ""
        student = _continued(inputs, settings, how, context)
    else:
        assert settings.image_size is not None
        student = Candidate.create(
            settings.student,
            settings.student_settings,
            inputs.teacher.spec.at(settings.image_size),
            (*inputs.teacher.lineage, f"{how} → {settings.student}"),
            context.seed,
            context.allowed,
        )
    training = distil(student, settings, inputs, context, how, from_teacher)
    return student.with_training(training)


def _continued(
    inputs: "StepInputs", settings: Settings, how: str, context: "Context"
) -> "Candidate":
    """The network of the steps before, with its weights or with fresh ones."""
    from dataclasses import replace

    from compress.candidate import Candidate, check_forward
    from compress.seeding import torch_seed
    from compress.structure import reset_weights

    before = Candidate.load(inputs.previous, context.allowed)
    if settings.image_size is not None:
        before = replace(before, spec=before.spec.at(settings.image_size))
    if settings.start_from == "scratch":
        with torch_seed(context.seed, "weights"):
            reset_weights(before.model)
    check_forward(before.model, before.spec, before.lineage[-1])
    return replace(before, lineage=(*before.lineage, how))
