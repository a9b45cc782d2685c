"""Trains a network on the teacher's answers: `distill`, and training for int8."""

from contextlib import ExitStack

from torch import Tensor

from compress.methods.context import Context, StepInputs
from compress.methods.distill import attention
from compress.methods.distill.settings import Distillation, Learning
from compress.methods.distill.teacher_cache import CachedTeacher, make_online
from compress.models.candidate import Candidate
from compress.results.schema import Training
from compress.tasks import task_of
from compress.tasks.base import TensorOutputs
from compress.training.batches import Batch, ImageFeed, draw_bank
from compress.training.logits import refuse_fresh_probabilities
from compress.training.loop import Objective, train
from compress.training.objectives import MatchTeacher, label_objective


def distil(
    student: Candidate,
    settings: Distillation,
    inputs: StepInputs,
    context: Context,
    how: str,
    from_teacher: bool = True,
) -> Training:
    """Trains `student.model` in place, from the teacher's outputs or as a control from the labels.

    An epoch has as many images for the control as for the distilled student, whose pool is
    larger where unlabelled images join in: both take the same number of steps. The control sees
    fresh views each epoch, as plain training would: it has no use for stored ones.
    """
    data, config = inputs.data, settings.train
    labelled = data.indices("train")
    with_unlabelled = data.indices("train", "unlabelled") if settings.unlabelled else labelled
    cached = from_teacher and settings.teacher_outputs == "cached"
    bank = draw_bank(settings.views, len(data.images), config.augmentation, context.seed)
    feed = ImageFeed(
        data=data,
        pixels=inputs.pixels,
        spec=student.spec,
        settings=config,
        pool=with_unlabelled if from_teacher else labelled,
        images_per_epoch=len(with_unlabelled),
        seed=context.seed,
        device=context.device,
        bank=bank if cached else None,
    )
    with ExitStack() as while_training:
        if from_teacher:
            objective = _match_teacher(student, settings, inputs, context, while_training)
        else:
            objective = label_objective(student.spec, config)
        history = train(student.model, feed, objective, config, inputs.folder, context.progress)
    views = f"{settings.views} cached views" if cached else "fresh views, teacher run online"
    loss = settings.loss.model_dump(exclude={"name"})
    if detail := ", ".join(f"{k} {v:g}" for k, v in loss.items()):
        how = f"{how} ({detail})"
    return Training(
        description=f"{how}, {views}" if from_teacher else "labels only, fresh views",
        labelled_images=len(labelled),
        unlabelled_images=len(with_unlabelled) - len(labelled) if from_teacher else 0,
        precision=config.precision,
        seconds=sum(epoch.seconds for epoch in history),
        epochs=history,
    )


def _match_teacher(
    student: Candidate,
    settings: Distillation,
    inputs: StepInputs,
    context: Context,
    while_training: ExitStack,
) -> Objective:
    """What the student is trained to do; it is watched where its attention counts."""
    soft = task_of(student.spec).teacher_loss(settings.loss)
    hard = label_objective(student.spec, settings.train)
    if inputs.teacher_outputs is None:
        online = make_online(
            inputs.teacher,
            inputs.pixels,
            settings.train.augmentation,
            context.device,
            settings.teacher_precision,
        )
        return MatchTeacher(online, soft, settings.hard_weight, hard)
    cached = CachedTeacher.load(inputs.teacher_outputs, inputs.teacher.spec)
    match = MatchTeacher(cached, soft, settings.hard_weight, hard)
    weight = settings.loss.attention
    if not weight:
        return match
    watch = while_training.enter_context(attention.watched(student))

    def match_attention_too(outputs: TensorOutputs, batch: Batch) -> Tensor:
        there = cached.attention(batch)
        here = watch.attention((there.shape[1], there.shape[2]))
        return match(outputs, batch) + weight * attention.difference(here, there)

    return match_attention_too


def fresh_student(settings: Learning, inputs: StepInputs, how: str, context: Context) -> Candidate:
    """The student that the settings name, with weights drawn from the seed.

    Raises:
        UserError: it takes no such images, gives no such outputs, or probabilities.
    """
    assert settings.student is not None and settings.image_size is not None
    student = Candidate.create(
        settings.student,
        settings.student_settings,
        inputs.teacher.spec.of_network.at(settings.image_size),
        (*inputs.teacher.provenance.lineage, f"{how} → {settings.student}"),
        context.seed,
        context.allowed,
    )
    refuse_fresh_probabilities(student)
    return student
