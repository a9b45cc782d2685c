"""Signs for activations and weights: trained from the teacher, deployed as popcount kernels.

Trained in two stages as ReActNet does (Liu et al. 2020, arXiv:2003.03488): first the activations
are signs and the weights real, then both. Deployed as an OpenVINO file whose binary layers are
proven to run as popcounts and to give the network's sums bit for bit; where that cannot be shown on
this machine the file is an exact float one, and dropped with the reason.
"""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compress.methods.base import Method, Student
from compress.methods.binarize.settings import Settings
from compress.models.layer_patterns import matching
from compress.results.schema import NO_TEACHER
from compress.training.settings import ViewSettings

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from compress.data.input_spec import InputSpec
    from compress.methods.context import Context, StepInputs
    from compress.methods.decided import Decided
    from compress.models.candidate import Candidate
    from compress.results.schema import Training


class Binarize(Method[Settings]):
    """Makes activations and weights signs, deployed as popcounts."""

    name = "binarize"
    settings = Settings
    version = 2
    measures = True
    makes_file = True
    runtimes = ("openvino",)
    nothing_follows = "its file is finished; put binarize last"
    prepared = set(Settings.model_fields) - {"rest", "images", "control"}

    def controls(self, settings: Settings) -> dict[str, Settings]:
        """Return the same network on the same schedule, learning from the labels."""
        return {NO_TEACHER: settings.without_teacher()} if settings.control else {}

    def student(self, settings: Settings) -> Student | None:
        """Return its own network, where one is named."""
        return settings.own_network

    def teachers(self, settings: Settings) -> list[str]:
        """Return the candidates that it learns from."""
        return settings.teachers

    def untrained(self, settings: Settings) -> Settings:
        """Return the same network as it begins, in one stage."""
        return settings.untrained().model_copy(update={"activations_first": None})

    def view_settings(self, settings: Settings) -> ViewSettings | None:
        """Return how the views are drawn that it learns from and the teacher answers."""
        return settings.view_settings()

    def check(
        self,
        settings: Settings,
        before: "Callable[[], nn.Module | None]",
        build: "Callable[[str, dict[str, Any]], nn.Module]",
        spec: "InputSpec",
    ) -> None:
        """Refuse, before anything runs, what no kernel can do.

        Args:
            before: makes the network that the step starts from; None where it is not known yet.
            build: makes a student of a builder's name and settings.

        Raises:
            UserError: the layers that cannot be binary, each with its name and why.
        """
        from compress.methods.binarize.conversion import binary_faults
        from compress.methods.distill.student import check_beginning
        from compress.utils.errors import UserError

        if settings.student is not None:
            student = build(settings.student, settings.student_settings)
            faults = list(binary_faults(student))
            check_beginning("binarize", settings, student)
        elif (network := before()) is not None:
            faults = _obstacles(network, settings)
        else:
            return
        if faults:
            raise UserError("binarize: " + "; ".join(faults) + ".")

    def decides_by_times(self, settings: Settings) -> bool:
        """Return whether it is measured what the real layers are faster in."""
        return settings.rest is None

    def prepare(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Train the binary network in its stages."""
        from dataclasses import replace

        from compress.methods.distill.train import distil
        from compress.models.binary_layers import use_binary_weights

        from_teacher = settings.learn_from == "teacher"
        how = f"binarize {settings.loss.name}" if from_teacher else f"binarize, {NO_TEACHER}"
        candidate = _start(inputs, settings, how, context)
        trainings, folders = [], []
        for number, (binary, train) in enumerate(settings.stages()):
            folder = inputs.folder / f"stage{number}"
            folder.mkdir(exist_ok=True)
            use_binary_weights(candidate.model, binary)
            context.progress.note(f"weights are {'signs' if binary else 'real, activations signs'}")
            stage = settings.model_copy(update={"train": train})
            trainings.append(
                distil(candidate, stage, replace(inputs, folder=folder), context, how, from_teacher)
            )
            folders.append(folder)
        candidate.model.eval().cpu()
        for folder in folders:
            shutil.rmtree(folder)
        return candidate.trained(_joined(trainings))

    def decide(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Decided":
        """Decide what the real layers are in: float32 or int8, whichever is faster here."""
        from compress.methods.binarize.deployment import faster_rest
        from compress.methods.decided import Decided
        from compress.results.schema import StepReport

        if settings.rest is not None:
            return Decided({"rest": settings.rest})
        rest, notes = faster_rest(*_trained(inputs, settings, context), inputs.folder, context)
        return Decided({"rest": rest}, StepReport(step="binarize", notes=notes))

    def apply(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Write the deployed file and prove it."""
        from compress.methods.binarize.deployment import deploy

        assert inputs.decided is not None
        candidate, images = _trained(inputs, settings, context)
        return deploy(candidate, images, inputs.decided["rest"], inputs.folder, context)


def _named(model: "nn.Module", settings: Settings) -> list[str]:
    from compress.methods.binarize.conversion import convolutions

    return list(dict.fromkeys(matching(settings.layers, list(convolutions(model)))))


def _obstacles(model: "nn.Module", settings: Settings) -> list[str]:
    from compress.methods.binarize.conversion import obstacle

    reasons = {name: obstacle(model, name) for name in _named(model, settings)}
    return [f"{name} {reason}" for name, reason in reasons.items() if reason]


def _trained(
    inputs: "StepInputs", settings: Settings, context: "Context"
) -> "tuple[Candidate, np.ndarray]":
    """Return the trained network, and images of the training split to find ranges on."""
    from compress.data.input_spec import normalise
    from compress.models.candidate import Candidate
    from compress.utils.seeding import generator

    candidate = Candidate.load(inputs.previous, context.allowed)
    training = inputs.data.indices("train")
    chosen = generator(context.seed, "calibration").permutation(training)[: settings.images]
    return candidate, normalise(inputs.pixels.of(chosen, candidate.spec), candidate.spec)


def _start(inputs: "StepInputs", settings: Settings, how: str, context: "Context") -> "Candidate":
    """Return the student, or the network before with its convolutions made binary."""

    from compress.methods.binarize.conversion import binarize_layers
    from compress.methods.distill.student import fresh_student
    from compress.models.candidate import Candidate
    from compress.models.structure import Replaced
    from compress.models.trial import check_forward
    from compress.utils.errors import UserError

    if settings.student is not None:
        return fresh_student("binarize", settings, inputs, how, context)
    before = Candidate.load(inputs.previous, context.allowed)
    if faults := _obstacles(before.model, settings):
        raise UserError("binarize: " + "; ".join(faults) + ".")
    names = _named(before.model, settings)
    binarize_layers(before.model, names, context.seed)
    spec = before.spec.at(settings.image_size) if settings.image_size else before.spec
    check_forward(before.model, spec, before.name)
    return before.after(
        f"{how} ({len(names)} layers)",
        spec=spec,
        replaced=[Replaced(name, "binary") for name in names],
    )


def _joined(trainings: "list[Training]") -> "Training":
    """Return one record of all stages, epochs counted through."""
    last = trainings[-1]
    epochs = [epoch for training in trainings for epoch in training.epochs]
    return last.model_copy(
        update={
            "seconds": sum(training.seconds for training in trainings),
            "epochs": [e.model_copy(update={"epoch": n + 1}) for n, e in enumerate(epochs)],
        }
    )
