"""Distil the teacher into a student network, or into what the steps before left of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.training.settings import Augmentation, Fraction, RecipeModel, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

    from compress.candidate import Candidate
    from compress.context import Context, StepInputs

VERSION = 1
NO_TEACHER, FROM_SCRATCH = "no teacher", "from scratch"


class KD(RecipeModel):
    """Hinton et al. 2015: softened logits."""

    name: Literal["kd"] = "kd"
    temperature: Annotated[float, Field(gt=0)] = 4.0


class DKD(RecipeModel):
    """Zhao et al. 2022: target class and the others weighted apart."""

    name: Literal["dkd"]
    temperature: Annotated[float, Field(gt=0)] = 4.0
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 8.0


class DIST(RecipeModel):
    """Huang et al. 2022: correlations between and within classes."""

    name: Literal["dist"]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 2.0
    gamma: Annotated[float, Field(ge=0)] = 2.0


class ViewSettings(RecipeModel):
    """Which teacher outputs are cached: this many augmented views of each picture."""

    count: int
    top_k: int
    unlabelled: bool
    augmentation: Augmentation
    precision: Literal["float32", "bfloat16"]


class Settings(RecipeModel):
    """A student, its schedule, and how it learns from the teacher.

    Without a `student` the network that the steps before it made (pruned, factorized) is trained.
    """

    student: str | None = None
    student_settings: dict[str, Any] = {}
    image_size: Annotated[int, Field(ge=8, le=2048)] | None = None  # none: as before
    loss: Annotated[KD | DKD | DIST, Field(discriminator="name")] = KD()
    hard_weight: Fraction = 0.0  # share of the labels' cross entropy
    teacher_outputs: Literal["cached", "online"] = "cached"
    views: Annotated[int, Field(ge=1, le=1000)] = 8  # augmented views of each picture when cached
    top_k: Annotated[int, Field(ge=2)] = 512  # logits kept of each view
    unlabelled: bool = True  # learn from unlabelled pictures too, where there are some
    teacher_precision: Literal["float32", "bfloat16"] = "bfloat16"
    # Also train on the same schedule: a student without a teacher, a pruned network from scratch.
    control: bool = True
    learn_from: Literal["teacher", "labels"] = "teacher"
    start_from: Literal["weights", "scratch"] = "weights"  # of the network that was there before
    train: TrainSettings

    @model_validator(mode="after")
    def _labels_need_no_control(self) -> "Settings":
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
    if settings.learn_from == "labels" or settings.teacher_outputs == "online":
        return None
    return ViewSettings(
        count=settings.views,
        top_k=settings.top_k,
        unlabelled=settings.unlabelled,
        augmentation=settings.train.augmentation,
        precision=settings.teacher_precision,
    )


def apply(inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
    """Trains the network on the teacher's logits, or as a student's control on the labels.

    An epoch has as many pictures for the control as for the distilled student, whose pool is
    larger where unlabelled pictures join in: both take the same number of steps. The control sees
    fresh views each epoch, as plain training would: it has no use for stored ones.
    """
    from compress.candidate import Candidate
    from compress.results import Training
    from compress.training.feed import PictureFeed, draw_bank
    from compress.training.loop import train
    from compress.training.objectives import Labels, MatchTeacher
    from compress.training.teacher_outputs import CachedTeacher, make_online

    data, config = inputs.data, settings.train
    labelled = data.indices("train")
    with_unlabelled = data.indices("train", "unlabelled") if settings.unlabelled else labelled
    from_teacher = settings.learn_from == "teacher"
    cached = from_teacher and settings.teacher_outputs == "cached"

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
    spec = student.spec
    bank = draw_bank(settings.views, len(data.pictures), config.augmentation, context.seed)
    feed = PictureFeed(
        data=data,
        pixels=inputs.pixels,
        spec=spec,
        settings=config,
        pool=with_unlabelled if from_teacher else labelled,
        pictures_per_epoch=len(with_unlabelled),
        seed=context.seed,
        device=context.device,
        bank=bank if cached else None,
    )
    hard = Labels(config.label_smoothing)
    if not from_teacher:
        objective: Labels | MatchTeacher = hard
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
    detail = ", ".join(f"{k} {v:g}" for k, v in loss.items())
    return student.with_training(
        Training(
            description=f"{how} ({detail}), {views}"
            if from_teacher
            else "labels only, fresh views",
            labelled_pictures=len(labelled),
            unlabelled_pictures=len(with_unlabelled) - len(labelled) if from_teacher else 0,
            seconds=sum(epoch.seconds for epoch in history),
            epochs=history,
        )
    )


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


def soft_loss(settings: Settings) -> Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]:
    """The distillation loss as a function of (student logits, teacher logits, labels)."""
    from compress.training import losses

    loss = settings.loss
    match loss:
        case KD():
            return lambda s, t, _: losses.kd(s, t, loss.temperature)
        case DKD():
            return lambda s, t, y: losses.dkd(s, t, y, loss.temperature, loss.alpha, loss.beta)
        case DIST():
            return lambda s, t, _: losses.dist(s, t, loss.temperature, loss.beta, loss.gamma)
