"""Settings of learning from the teacher, shared by every step that trains. No torch here."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from compress.methods.base import Student
from compress.tasks import discover
from compress.tasks.margins import Margin
from compress.tasks.settings import LossSettings
from compress.training.settings import Augmentation, Precision, TrainSettings, ViewSettings
from compress.utils.settings import (
    IN_KEY,
    Fraction,
    ImageSize,
    Positive,
    RecipeModel,
    check_normalisation,
)

if TYPE_CHECKING:
    Loss = LossSettings
else:  # those of all tasks; which of them fit is for recipe/task.py to say
    Loss = reduce(or_, {loss: None for task in discover().values() for loss in task.losses})
USUAL = next(iter(discover().values())).usual_loss()

# What a step says of a network of its own, where it goes on with the one before.
NO_STUDENT: dict[str, Any] = {
    "student": None, "student_settings": {}, "image_size": None, "weights": None, "mean": None,
    "std": None,
}  # fmt: skip


class Unlabelled(RecipeModel):
    """How unlabelled images take part: with what the teacher says of the image as it is.

    It counts from a confidence on, sharpened; a fixed share of each batch is such images.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of each batch
    # Of the teacher's most probable class, before it is sharpened; of several labels an image, of
    # its answer to each.
    min_confidence: Fraction = 0.0
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0  # below 1 sharpens the teacher's answer


class Distillation(RecipeModel):
    """How a network learns from the teacher: the loss, the cached views, the schedule."""

    loss: Annotated[Loss, Field(discriminator="name")] = USUAL
    hard_weight: Fraction = 0.0  # share of the labels' own loss
    teacher_outputs: Literal["cached", "online"] = "cached"
    views: Annotated[int, Field(ge=1, le=1000)] = 8  # augmented views of each image when cached
    top_k: Annotated[int, Field(ge=2)] = 512  # logits kept of each view
    unlabelled: bool | Unlabelled = True  # learn from unlabelled images too, where there are some
    teacher_precision: Precision = "auto"
    train: TrainSettings
    # Another candidate, or several, of which "teacher" is the recipe's; none: that one alone.
    teacher: str | list[str] | None = None
    # The modules that train.head_lr_factor and the like are of, and that begin anew where a student
    # begins with weights; none: the last linear layer.
    head: str | list[str] | None = None

    came_later: ClassVar[tuple[str, ...]] = ("teacher", "head")

    @property
    def head_modules(self) -> list[str]:
        """Those that are named as the head."""
        return [self.head] if isinstance(self.head, str) else self.head or []

    @property
    def teachers(self) -> list[str]:
        """The candidates that it learns from; none: the recipe's teacher."""
        return [self.teacher] if isinstance(self.teacher, str) else self.teacher or []

    @model_validator(mode="after")
    def _attention_is_cached_of_one(self) -> Self:
        if self.teacher_outputs == "online" and self.loss.attention:
            raise ValueError(f"{self.loss.name} compares what is cached: remove teacher_outputs")
        if len(self.teachers) > 1 and self.loss.attention:
            raise ValueError(
                f"{self.loss.name} compares with one teacher: name one, or no attention"
            )
        return self

    @model_validator(mode="after")
    def _of_the_image_as_it_is(self) -> Self:
        if not isinstance(self.unlabelled, Unlabelled):
            return self
        usual = Distillation.model_fields
        named = ("views", "teacher_outputs")
        if used := [name for name in named if getattr(self, name) != usual[name].default]:
            raise ValueError(
                f"unlabelled with a share takes the teacher's answer to the image as it is: remove "
                f"{' and '.join(used)}"
            )
        if self.loss.attention:
            raise ValueError("unlabelled with a share takes answers alone: choose another loss")
        return self

    @property
    def _asks_for_head(self) -> bool:
        """Whether it matters which modules are the head."""
        return any(x.asks_for_head for _, x in self if isinstance(x, TrainSettings))

    @model_validator(mode="after")
    def _head_is_asked_for(self, info: ValidationInfo) -> Self:
        # In a key a schedule may be a part of the recipe's.
        if self.head is not None and not self._asks_for_head and info.context != IN_KEY:
            raise ValueError(
                "head is for a student that begins with weights or has a margin, or for a train "
                "with head_lr_factor, head_only_epochs, layer_decay or mirror: new_class, and none "
                "of them is here: remove it"
            )
        return self

    def view_settings(self) -> ViewSettings | None:
        """What must be cached before training can begin; None if nothing."""
        if self.teacher_outputs == "online":
            return None
        if isinstance(self.unlabelled, Unlabelled):
            return ViewSettings(
                count=1,
                top_k=self.top_k,
                unlabelled=True,
                validation=True,
                augmentation=Augmentation.none(),
                precision=self.teacher_precision,
            )
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
    weights: str | None = None  # that the student begins with: a file, torchvision:…, or timm
    mean: Annotated[list[float], Field(min_length=1, max_length=3)] | None = None  # none: theirs
    std: Annotated[list[Positive], Field(min_length=1, max_length=3)] | None = None
    image_size: ImageSize | None = None  # none: as before, or as the weights say
    # That the labels' loss asks of a student's head, which becomes one of cosines.
    margin: Annotated[Margin, Field(discriminator="name")] | None = None
    control: bool = True  # train a control row on the same schedule, too
    learn_from: Literal["teacher", "labels"] = "teacher"

    came_later = (*Distillation.came_later, "weights", "mean", "std", "margin")

    @model_validator(mode="before")
    @classmethod
    def _epochs_of_labelled_images(cls, given: Any) -> Any:
        # With labels alone, unlabelled images would only make its epochs longer.
        if isinstance(given, dict) and given.get("learn_from") == "labels":
            return {"unlabelled": False, **given}
        return given

    @model_validator(mode="after")
    def _a_student_or_the_network_before(self) -> Self:
        if self.student is not None and self.image_size is None and self.weights is None:
            raise ValueError("a student needs an image_size")
        if self.student is None and self.student_settings:
            raise ValueError("student_settings are for a student: name one, or remove them")
        if self.student is None and (named := self._of_weights):
            raise ValueError(
                f"{' and '.join(named)} are for a student, which begins with weights: name one"
            )
        if self.weights is None and (named := self._of_weights):
            raise ValueError(f"{' and '.join(named)} are of weights that a student begins with")
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or neither: the weights say them")
        if self.mean is not None and self.std is not None:
            check_normalisation(self.mean, self.std)
        if self.margin is not None and self.student is None:
            raise ValueError("margin is for a student, whose head is drawn anew: name one")
        if self.margin is not None and self.learn_from == "teacher" and self.hard_weight == 0:
            raise ValueError(
                "margin is of the labels' loss, which has no weight: give hard_weight, or "
                "learn_from: labels"
            )
        if self.learn_from == "labels" and self.teacher is not None:
            raise ValueError("learn_from: labels asks no teacher: remove one of the two")
        if self.learn_from == "labels" and self.control:
            raise ValueError("learn_from: labels is the control itself: set control: false")
        mixes = self.train.mixup or self.train.cutmix
        if mixes and self.learn_from == "teacher" and self.loss.attention:
            raise ValueError("mixup and cutmix make images that the teacher never looked at")
        return self

    @property
    def _of_weights(self) -> list[str]:
        """The settings given that are of weights that a student begins with."""
        return [x for x in ("weights", "mean", "std") if getattr(self, x) is not None]

    @property
    def _asks_for_head(self) -> bool:
        """Whether it matters which modules are the head: also to what begins anew."""
        return super()._asks_for_head or self.weights is not None or self.margin is not None

    @property
    def own_network(self) -> Student | None:
        """The student, where one is named."""
        if self.student is None:
            return None
        return Student(self.student, self.student_settings, self.image_size, self.weights)

    def view_settings(self) -> ViewSettings | None:
        """What must be cached before training can begin; None if nothing."""
        return None if self.learn_from == "labels" else super().view_settings()

    def without_teacher(self) -> Self:
        """The control: the same network on the same schedule, learning from the labels.

        What only a teacher's student depends on goes back to its default: one control serves all.
        """
        of_teacher = ("teacher", "teacher_outputs", "teacher_precision", "top_k")
        unused = ("loss", "hard_weight", "views", *of_teacher)
        update = {name: type(self).model_fields[name].default for name in unused}
        if isinstance(self.unlabelled, Unlabelled):
            update["unlabelled"] = Unlabelled(share=self.unlabelled.share)
        return self.model_copy(update=update | {"learn_from": "labels", "control": False})

    def untrained(self) -> Self:
        """The same network as it begins: no epochs, and no teacher that would be asked."""
        return self.without_teacher().model_copy(
            update={"unlabelled": False, "train": _of(self.train, 0, warmup=0, head_alone=0)}
        )


def _of(
    train: TrainSettings, epochs: int, warmup: float, head_alone: int, **more: Any
) -> TrainSettings:
    """Return a schedule of so many epochs at a constant rate, at one image size."""
    update = {"epochs": epochs, "warmup_epochs": warmup, "head_only_epochs": head_alone}
    return train.model_copy(update={**update, "cooldown_epochs": 0.0, "progressive": [], **more})


class Settings(Learning):
    """A student, its schedule, and how it learns from the teacher.

    Without a `student` the network that the steps before it made (pruned, factorized) is trained.
    """

    start_from: Literal["weights", "scratch"] = "weights"  # of the network that was there before

    def in_parts(self, epochs: Sequence[int]) -> list[Self]:
        """Return the steps that train so many epochs each, the rate falling in the last alone.

        Order, views and mixtures go on from part to part; the optimizer's moments begin anew in
        each. The average of weights (`ema`) is taken in the last part alone: what is trained on is
        the network itself.

        None where a part could not go on from the one before: a head that is trained in another
        shape than it is exported in.
        """
        if self.margin is not None or self.train.augmentation.mirror == "new_class":
            return []
        last, found = len(epochs) - 1, []
        for i, count in enumerate(epochs):
            warmup = min(self.train.warmup_epochs, count) if i == 0 else 0.0
            alone = min(self.train.head_only_epochs, count - 1) if i == 0 else 0
            before = self.train.epochs_before + sum(epochs[:i])
            train = _of(self.train, count, warmup, alone, epochs_before=before, ema=None)
            if i == last:
                falls = {"cooldown_epochs": count - warmup, "ema": self.train.ema}
                train = train.model_copy(update=falls)
            first = {} if i == 0 else NO_STUDENT | {"start_from": "weights"}
            part = self.model_copy(update={**first, "control": False, "train": train})
            named = self.head if part._asks_for_head else None
            found.append(part.model_copy(update={"head": named}))
        return found
