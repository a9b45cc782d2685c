"""Distil the teacher into a student network, or into what the steps before left of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from compress.methods.base import Method, Student
from compress.methods.distill.settings import Settings
from compress.results.schema import FROM_SCRATCH, NO_TEACHER
from compress.training.settings import ViewSettings

if TYPE_CHECKING:
    from torch import nn

    from compress.data.input_spec import InputSpec
    from compress.methods.context import Context, StepInputs
    from compress.models.candidate import Candidate


class Distill(Method[Settings]):
    """Trains a student, or what the steps before left, on what the teacher says."""

    name = "distill"
    settings = Settings
    version = 1

    def controls(self, settings: Settings) -> dict[str, Settings]:
        """Return for a student the same one on the same schedule, learning from the labels.

        For a network that was there before it is the same shape with fresh weights, trained alike
        (Liu et al. 2019, arXiv:1810.05270: often the kept weights are worth nothing).
        """
        if not settings.control:
            return {}
        if settings.student is None:
            scratch = {"start_from": "scratch", "control": False}
            return {FROM_SCRATCH: settings.model_copy(update=scratch)}
        return {NO_TEACHER: settings.without_teacher()}

    def student(self, settings: Settings) -> Student | None:
        """Its own network, where one is named."""
        return settings.own_network

    def teachers(self, settings: Settings) -> list[str]:
        """Return the candidates that it learns from."""
        return settings.teachers

    def untrained(self, settings: Settings) -> Settings:
        """Return the same network as it begins."""
        return settings.untrained()

    def in_parts(self, settings: Settings, epochs: Sequence[int]) -> list[Settings]:
        """Return the steps that train it in parts."""
        return settings.in_parts(epochs)

    def view_settings(self, settings: Settings) -> ViewSettings | None:
        """What the teacher says of the views that it learns from."""
        return settings.view_settings()

    def check(
        self,
        settings: Settings,
        before: "Callable[[], nn.Module | None]",
        build: "Callable[[str, dict[str, Any]], nn.Module]",
        spec: "InputSpec",
    ) -> None:
        """Refuses a student that cannot be built, or that only `binarize` can deploy.

        Args:
            build: makes a student of a builder's name and settings.

        Raises:
            UserError: what is wrong with the student.
        """
        from compress.methods.distill.student import check_beginning
        from compress.models.binary_layers import binary_layers
        from compress.utils.errors import UserError

        if settings.student is None:
            return
        student = build(settings.student, settings.student_settings)
        if binary_layers(student):
            raise UserError(
                f"distill: {settings.student} has binary layers: train it with the step binarize, "
                "which deploys them as popcounts, or in float with student_settings: "
                "{binary: false}."
            )
        check_beginning("distill", settings, student)

    def apply(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Trains the network on the teacher's logits, or as a student's control on the labels."""
        from compress.methods.distill.student import fresh_student
        from compress.methods.distill.train import distil

        from_teacher = settings.learn_from == "teacher"
        how = f"distil {settings.loss.name}" if from_teacher else NO_TEACHER
        if settings.student is None:
            how += f", {FROM_SCRATCH}" if settings.start_from == "scratch" else ""
            student = _continued(inputs, settings, how, context)
        else:
            student = fresh_student("distill", settings, inputs, how, context)
        training = distil(student, settings, inputs, context, how, from_teacher)
        return student.trained(training)


def _continued(
    inputs: "StepInputs", settings: Settings, how: str, context: "Context"
) -> "Candidate":
    """The network of the steps before, with its weights or with fresh ones."""
    from dataclasses import replace

    from compress.models.candidate import Candidate
    from compress.models.structure import reset_weights
    from compress.models.trial import check_forward
    from compress.utils.seeding import torch_seed

    before = Candidate.load(inputs.previous, context.allowed)
    if settings.image_size is not None:
        before = replace(before, spec=before.spec.at(settings.image_size))
    if settings.start_from == "scratch":
        with torch_seed(context.seed, "weights"):
            reset_weights(before.model)
    check_forward(before.model, before.spec, before.name)
    return before.after(how)
