"""A student before it learns: with weights drawn from the seed, or with pretrained ones."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.methods.context import Context, StepInputs
from compress.methods.distill.settings import Learning
from compress.models.builders import build
from compress.models.candidate import Candidate
from compress.models.cosine_layer import cosine_head
from compress.models.head import head_of, last_layer
from compress.models.pretrained import FullInput, Pretrained, begin_with, input_of
from compress.models.structure import Replaced
from compress.results.schema import StepReport
from compress.tasks import task_of
from compress.tasks.margins import refuse_without_library
from compress.training.batches import some_images
from compress.training.logits import refuse_fresh_probabilities
from compress.utils.errors import UserError
from compress.utils.seeding import torch_seed


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
        fresh = _drawn(settings, spec, (*before, f"{how} → {settings.student}"), context)
        return _with_margin(fresh, settings, context)
    file = context.files.get(settings.weights)
    found = Pretrained.read(settings.weights, settings.student, file)
    spec, said = _spec(settings, teacher.spec.of_network, found, context)
    lineage = (*before, f"{how} → {settings.student} from {found.shown}")
    student = _drawn(settings, spec, lineage, context)
    notes = begin_with(
        found,
        student.model,
        settings.student,
        settings.head_modules,
        lambda: some_images(inputs.data, inputs.pixels, spec),
        same_classes=settings.margin is None and task_of(spec).same_outputs(found.metadata),
    )
    for note in (*notes, *said):
        context.progress.note(note)
    report = StepReport(step=step, notes=[*notes, *said])
    past = student.provenance
    student = replace(student, provenance=replace(past, steps=(*past.steps, report)))
    return _with_margin(student, settings, context)


def check_beginning(step: str, settings: Learning, network: nn.Module) -> None:
    """Refuse, before anything runs, weights that the student cannot begin with, or its head.

    Args:
        step: that trains it, by its name in recipes.
        network: the student's.

    Raises:
        UserError: no such weights, or of another network; nobody says what images they were trained
            on; no such head; a margin for a head that cannot have one.
    """
    try:
        if settings.head is not None:
            _check_head(settings, network)
        if settings.weights is not None:
            _check_weights(settings, settings.weights, network)
        if settings.margin is not None:
            refuse_without_library(settings.margin.name)
            cosine_head(network, _last_layer(network, settings))
    except UserError as error:
        raise UserError(f"{step}: {error}") from error


def _check_head(settings: Learning, network: nn.Module) -> None:
    """Refuse a head that the network does not have, or that has nothing to be doubled.

    Raises:
        UserError: what is wrong.
    """
    head = head_of(network, settings.head_modules)
    if settings.train.augmentation.mirror == "new_class":
        last_layer(network, head)


def _check_weights(settings: Learning, weights: str, network: nn.Module) -> None:
    """Refuse weights that do not fit, or whose images nobody describes; the network takes them.

    Raises:
        UserError: what is wrong.
    """
    assert settings.student is not None
    builder = settings.student
    found = Pretrained.foreseen(weights, builder)

    def seen() -> FullInput:
        own, _ = input_of(found, network, builder, settings.mean, settings.std, settings.image_size)
        return own

    def images() -> Tensor:  # a builder that converts weights is shown any
        return torch.randn(2, 3, *seen().size, generator=torch.Generator().manual_seed(0))

    begin_with(found, network, builder, settings.head_modules, images)
    seen()


def _last_layer(network: nn.Module, settings: Learning) -> str:
    """Return the layer that gives the student's classes."""
    return last_layer(network, head_of(network, settings.head_modules))


def _drawn(
    settings: Learning, spec: InputSpec, lineage: tuple[str, ...], context: Context
) -> Candidate:
    assert settings.student is not None
    student = Candidate.create(
        settings.student, settings.student_settings, spec, lineage, context.seed, context.allowed
    )
    refuse_fresh_probabilities(student)
    return student


def _with_margin(student: Candidate, settings: Learning, context: Context) -> Candidate:
    """Return the student with a head of cosines, where a margin is asked for."""
    if settings.margin is None:
        return student
    head = _last_layer(student.model, settings)
    with torch_seed(context.seed, "head of cosines"):
        cosine_head(student.model, head, settings.margin.scale)
    past = student.provenance
    replaced = (*past.replaced, Replaced(head, "cosine"))
    return replace(student, provenance=replace(past, replaced=replaced))


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
