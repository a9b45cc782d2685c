"""Distil the teacher into a student network."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.training.settings import Augmentation, Fraction, RecipeModel, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

    from compress.candidate import Candidate
    from compress.context import Context, StepInputs

VERSION = 1
REPLACES_MODEL = True
CONTROL = "no teacher"


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
    """A student, its schedule, and how it learns from the teacher."""

    student: str
    student_settings: dict[str, Any] = {}
    image_size: Annotated[int, Field(ge=8, le=2048)]
    loss: Annotated[KD | DKD | DIST, Field(discriminator="name")] = KD()
    hard_weight: Fraction = 0.0  # share of the labels' cross entropy
    teacher_outputs: Literal["cached", "online"] = "cached"
    views: Annotated[int, Field(ge=1, le=1000)] = 8  # augmented views of each picture when cached
    top_k: Annotated[int, Field(ge=2)] = 512  # logits kept of each view
    unlabelled: bool = True  # learn from unlabelled pictures too, where there are some
    teacher_precision: Literal["float32", "bfloat16"] = "bfloat16"
    control: bool = True  # also train the same student on the same schedule without a teacher
    learn_from: Literal["teacher", "labels"] = "teacher"
    train: TrainSettings

    @model_validator(mode="after")
    def _labels_need_no_control(self) -> "Settings":
        if self.learn_from == "labels" and self.control:
            raise ValueError("learn_from: labels is the control itself: set control: false")
        if self.train.mixup > 0 and self.learn_from == "teacher":
            raise ValueError("mixup makes pictures that the teacher was not asked about")
        return self


def controls(settings: Settings) -> dict[str, Settings]:
    """The same student on the same schedule, learning from the labels."""
    if not settings.control:
        return {}
    # What only a teacher's student depends on goes back to its default: one control serves all.
    unused = ("loss", "hard_weight", "teacher_outputs", "views", "top_k", "teacher_precision")
    update = {name: Settings.model_fields[name].default for name in unused}
    update |= {"learn_from": "labels", "control": False}
    return {CONTROL: settings.model_copy(update=update)}


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
    """Trains the student on the teacher's logits, or as its control on the labels.

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

    spec = inputs.teacher.spec.at(settings.image_size)
    how = f"distil {settings.loss.name}" if from_teacher else CONTROL
    lineage = (*inputs.teacher.lineage, f"{how} → {settings.student}")
    student = Candidate.create(
        settings.student, settings.student_settings, spec, lineage, context.seed, context.allowed
    )
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
