"""Trains a network on the teacher's answers: `distill`, and training for int8."""

from collections.abc import Callable

from torch import Tensor

from compress.candidate import Candidate
from compress.context import Context, StepInputs
from compress.results import Training
from compress.training import losses
from compress.training.distillation_settings import DIST, DKD, KD, Distillation, Learning, Points
from compress.training.feed import PictureFeed, draw_bank
from compress.training.loop import train
from compress.training.objectives import MatchTeacher, hard_objective
from compress.training.teacher_outputs import CachedTeacher, make_online


def distil(
    student: Candidate,
    settings: Distillation,
    inputs: StepInputs,
    context: Context,
    how: str,
    from_teacher: bool = True,
) -> Training:
    """Trains `student.model` in place, from the teacher's outputs or as a control from the labels.

    An epoch has as many pictures for the control as for the distilled student, whose pool is
    larger where unlabelled pictures join in: both take the same number of steps. The control sees
    fresh views each epoch, as plain training would: it has no use for stored ones.
    """
    data, config = inputs.data, settings.train
    labelled = data.indices("train")
    with_unlabelled = data.indices("train", "unlabelled") if settings.unlabelled else labelled
    cached = from_teacher and settings.teacher_outputs == "cached"
    bank = draw_bank(settings.views, len(data.pictures), config.augmentation, context.seed)
    feed = PictureFeed(
        data=data,
        pixels=inputs.pixels,
        spec=student.spec,
        settings=config,
        pool=with_unlabelled if from_teacher else labelled,
        pictures_per_epoch=len(with_unlabelled),
        seed=context.seed,
        device=context.device,
        bank=bank if cached else None,
    )
    hard = hard_objective(student.spec, config)
    if not from_teacher:
        objective = hard
    elif inputs.teacher_outputs is not None:
        teacher = CachedTeacher.load(inputs.teacher_outputs)
        objective = MatchTeacher(teacher, soft_loss(settings), settings.hard_weight, hard)
    else:
        online = make_online(
            inputs.teacher,
            inputs.pixels,
            config.augmentation,
            context.device,
            settings.teacher_precision,
        )
        objective = MatchTeacher(online, soft_loss(settings), settings.hard_weight, hard)

    history = train(student.model, feed, objective, config, inputs.folder, context.progress)
    views = f"{settings.views} cached views" if cached else "fresh views, teacher run online"
    loss = settings.loss.model_dump(exclude={"name"})
    if detail := ", ".join(f"{k} {v:g}" for k, v in loss.items()):
        how = f"{how} ({detail})"
    return Training(
        description=f"{how}, {views}" if from_teacher else "labels only, fresh views",
        labelled_pictures=len(labelled),
        unlabelled_pictures=len(with_unlabelled) - len(labelled) if from_teacher else 0,
        seconds=sum(epoch.seconds for epoch in history),
        epochs=history,
    )


def fresh_student(settings: Learning, inputs: StepInputs, how: str, context: Context) -> Candidate:
    """The student that the settings name, with weights drawn from the seed."""
    assert settings.student is not None and settings.image_size is not None
    return Candidate.create(
        settings.student,
        settings.student_settings,
        inputs.teacher.spec.at(settings.image_size),
        (*inputs.teacher.lineage, f"{how} → {settings.student}"),
        context.seed,
        context.allowed,
    )


def soft_loss(settings: Distillation) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The distillation loss as a function of (student's outputs, teacher's outputs, labels)."""
    loss = settings.loss
    match loss:
        case KD():
            return lambda s, t, _: losses.kd(s, t, loss.temperature)
        case DKD():
            return lambda s, t, y: losses.dkd(s, t, y, loss.temperature, loss.alpha, loss.beta)
        case DIST():
            return lambda s, t, _: losses.dist(s, t, loss.temperature, loss.beta, loss.gamma)
        case Points():
            return lambda s, t, _: losses.points(s, t)
