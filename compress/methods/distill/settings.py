"""Settings of learning from the teacher, shared by every step that trains. No torch here."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from compress.methods.base import Student
from compress.tasks import discover
from compress.tasks.settings import LossSettings
from compress.training.settings import Precision, TrainSettings, ViewSettings
from compress.utils.settings import Fraction, ImageSize, RecipeModel

if TYPE_CHECKING:
    Loss = LossSettings
else:  # those of all tasks; which of them fit is for recipe/task.py to say
    Loss = reduce(or_, {loss: None for task in discover().values() for loss in task.losses})
USUAL = next(iter(discover().values())).usual_loss()


class Distillation(RecipeModel):
    """How a network learns from the teacher: the loss, the cached views, the schedule."""

    loss: Annotated[Loss, Field(discriminator="name")] = USUAL
    hard_weight: Fraction = 0.0  # share of the labels' own loss
    teacher_outputs: Literal["cached", "online"] = "cached"
    views: Annotated[int, Field(ge=1, le=1000)] = 8  # augmented views of each image when cached
    top_k: Annotated[int, Field(ge=2)] = 512  # logits kept of each view
    unlabelled: bool = True  # learn from unlabelled images too, where there are some
    teacher_precision: Precision = "auto"
    train: TrainSettings

    @model_validator(mode="after")
    def _attention_is_cached(self) -> Self:
        if self.teacher_outputs == "online" and self.loss.attention:
            raise ValueError(f"{self.loss.name} compares what is cached: remove teacher_outputs")
        return self

    def view_settings(self) -> ViewSettings | None:
        """What must be cached before training can begin; None if nothing."""
        if self.teacher_outputs == "online":
            return None
        return ViewSettings(
            count=self.views,
            top_k=self.top_k,
            unlabelled=self.unlabelled,
            augmentation=self.train.augmentation,
            precision=self.teacher_precision,
            attention=bool(self.loss.attention),
        )


class Learning(Distillation):
    """What a step trains: a student of its own, or the network that the steps before it left."""

    student: str | None = None
    student_settings: dict[str, Any] = {}
    image_size: ImageSize | None = None  # none: as before
    control: bool = True  # train a control row on the same schedule, too
    learn_from: Literal["teacher", "labels"] = "teacher"

    @model_validator(mode="after")
    def _a_student_or_the_network_before(self) -> Self:
        if self.student is not None and self.image_size is None:
            raise ValueError("a student needs an image_size")
        if self.student is None and self.student_settings:
            raise ValueError("student_settings are for a student: name one, or remove them")
        if self.learn_from == "labels" and self.control:
            raise ValueError("learn_from: labels is the control itself: set control: false")
        if self.train.mixup > 0 and self.learn_from == "teacher":
            raise ValueError("mixup makes images that the teacher was not asked about")
        return self

    @property
    def own_network(self) -> Student | None:
        """The student, where one is named."""
        if self.student is None:
            return None
        return Student(self.student, self.student_settings, self.image_size)

    def view_settings(self) -> ViewSettings | None:
        """What must be cached before training can begin; None if nothing."""
        return None if self.learn_from == "labels" else super().view_settings()

    def without_teacher(self) -> Self:
        """The control: the same network on the same schedule, learning from the labels.

        What only a teacher's student depends on goes back to its default: one control serves all.
        """
        unused = ("loss", "hard_weight", "teacher_outputs", "views", "top_k", "teacher_precision")
        update = {name: type(self).model_fields[name].default for name in unused}
        return self.model_copy(update=update | {"learn_from": "labels", "control": False})


class Settings(Learning):
    """A student, its schedule, and how it learns from the teacher.

    Without a `student` the network that the steps before it made (pruned, factorized) is trained.
    """

    start_from: Literal["weights", "scratch"] = "weights"  # of the network that was there before
