"""Settings of learning from the teacher, shared by every step that trains. No torch here."""

from typing import Annotated, Literal

from pydantic import Field

from compress.training.settings import Augmentation, Fraction, RecipeModel, TrainSettings


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


class Distillation(RecipeModel):
    """How a network learns from the teacher: the loss, the cached views, the schedule."""

    loss: Annotated[KD | DKD | DIST, Field(discriminator="name")] = KD()
    hard_weight: Fraction = 0.0  # share of the labels' cross entropy
    teacher_outputs: Literal["cached", "online"] = "cached"
    views: Annotated[int, Field(ge=1, le=1000)] = 8  # augmented views of each picture when cached
    top_k: Annotated[int, Field(ge=2)] = 512  # logits kept of each view
    unlabelled: bool = True  # learn from unlabelled pictures too, where there are some
    teacher_precision: Literal["float32", "bfloat16"] = "bfloat16"
    train: TrainSettings

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
        )
