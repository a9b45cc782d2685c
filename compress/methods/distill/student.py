"""A student before it learns: with weights drawn from the seed, or with pretrained ones."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from compress.data.input_spec import InputSpec, normalise
from compress.methods.context import Context, StepInputs
from compress.methods.distill.settings import Learning
from compress.models.builders import build
from compress.models.candidate import Candidate
from compress.models.pretrained import Pretrained, begin_with, input_of, refuse_unfit
from compress.models.weight_sources import is_file
from compress.results.schema import StepReport
from compress.tasks import task_of
from compress.training.logits import refuse_fresh_probabilities
from compress.utils.errors import UserError

STATISTICS_IMAGES = 64  # that a builder which converts weights may see


def fresh_student(
    step: str, settings: Learning, inputs: StepInputs, how: str, context: Context
) -> Candidate:
    """Return the student that the settings name, with the weights that it begins with.

    Args:
        step: that trains it, by its name in recipes.
        how: it is trained, in words.

    Raises:
        UserError: weights that are not to be had, or of another network; nobody says what images
            they were trained on; a network that takes no such images, or gives probabilities.
    """
    assert settings.student is not None
    teacher = inputs.teacher
    before = teacher.provenance.lineage
    if settings.weights is None:
        assert settings.image_size is not None
        spec = teacher.spec.of_network.at(settings.image_size)
        return _drawn(settings, spec, (*before, f"{how} → {settings.student}"), context)
    file = context.files.get(settings.weights)
    found = Pretrained.read(settings.weights, settings.student, file)
    spec, said = _spec(settings, teacher.spec.of_network, found, context)
    lineage = (*before, f"{how} → {settings.student} from {found.shown}")
    student = _drawn(settings, spec, lineage, context)
    shown = inputs.data.indices("train")[:STATISTICS_IMAGES]

    def images() -> torch.Tensor:
        return torch.from_numpy(normalise(inputs.pixels.of(shown, spec), spec))

    notes = begin_with(
        found,
        student.model,
        settings.student,
        settings.head_modules,
        images,
        same_classes=task_of(spec).same_outputs(found.metadata),
    )
    for note in (*notes, *said):
        context.progress.note(note)
    report = StepReport(step=step, notes=[*notes, *said])
    past = student.provenance
    return replace(student, provenance=replace(past, steps=(*past.steps, report)))


def check_weights(step: str, settings: Learning, network: nn.Module) -> None:
    """Refuse, before anything runs, weights that the student cannot begin with.

    Args:
        step: that trains it, by its name in recipes.
        network: the student's.

    Raises:
        UserError: no such file, weights of another network; nobody says what images they were
            trained on.
    """
    assert settings.student is not None and settings.weights is not None
    if not is_file(settings.weights):
        return  # to be downloaded when it is needed
    try:
        found = Pretrained.read(settings.weights, settings.student, Path(settings.weights))
        refuse_unfit(found, network, settings.student, settings.head_modules)
        input_of(found, network, settings.student, settings.mean, settings.std, settings.image_size)
    except UserError as error:
        raise UserError(f"{step}: {error}") from error


def _drawn(
    settings: Learning, spec: InputSpec, lineage: tuple[str, ...], context: Context
) -> Candidate:
    assert settings.student is not None
    student = Candidate.create(
        settings.student, settings.student_settings, spec, lineage, context.seed, context.allowed
    )
    refuse_fresh_probabilities(student)
    return student


def _spec(
    settings: Learning, teacher: InputSpec, found: Pretrained, context: Context
) -> tuple[InputSpec, list[str]]:
    """Return what the student takes, as the recipe or its weights say, and who else says so."""
    assert settings.student is not None
    network = build(
        settings.student, settings.student_settings, teacher.num_outputs, context.allowed
    )
    own, notes = input_of(
        found, network, settings.student, settings.mean, settings.std, settings.image_size
    )
    update = {"mean": tuple(own.mean), "std": tuple(own.std), "channels": own.channels}
    return teacher.model_copy(update=update).at(own.size), notes
