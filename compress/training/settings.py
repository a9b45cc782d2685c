"""Settings of training that recipes hold. Importing this never imports torch."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from compress.utils.settings import IN_KEY, Fraction, ImageSize, RecipeModel

TRAINING_VERSION = 1  # of the loop and the augmentation: part of every trained stage's key
Precision = Literal["auto", "float32", "bfloat16", "float16"]  # auto: what is fastest here


class Augmentation(RecipeModel):
    """Light augmentation; each number is the largest change, drawn uniformly.

    There are no flips unless they are asked for: of many things (a whale's head, a text) the mirror
    image is another thing. `mirror: new_class` takes it for one: classes are doubled in training,
    and halved in what is exported. That needs about twice the epochs. With `mirror: same` boxes and
    points are mirrored, too; points keep their names, so it is not for a left and a right one.

    Policies are torchvision's (Müller & Hutter 2021, arXiv:2103.10158; Cubuk et al. 2020,
    arXiv:1909.13719).
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1  # zoom by 1 / (1 ± scale)
    shift: Fraction = 0.05  # of the image's width and height
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.2  # factor 1 ± brightness
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2  # factor 1 ± contrast around the mean
    erase: Fraction = 0.0  # side of a square set to the image's mean, of the image's side
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0.0  # factor 1 ± saturation, around grey
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # of the colour circle, ± hue
    mirror: Literal["never", "same", "new_class"] = "never"  # half of the images, left to right
    policy: Literal["none", "trivial", "rand"] = "none"  # TrivialAugment, RandAugment, before all

    came_later = ("saturation", "hue", "mirror", "policy")

    @classmethod
    def none(cls) -> "Augmentation":
        """Return what leaves an image as it is."""
        return cls(rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0)


class Phase(RecipeModel):
    """So many first epochs at a smaller image size (progressive resizing)."""

    epochs: Annotated[int, Field(gt=0)]
    image_size: ImageSize


def _none_in_keys(value: Any, checked: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Take 0 in a stage's key: a network as it begins, to be timed; no recipe trains nothing."""
    return value if value == 0 and info.context == IN_KEY else checked(value)


class TrainSettings(RecipeModel):
    """How a network is trained: linear warm-up, then a cosine, one seed, one loop.

    With `cooldown_epochs` the rate is constant instead and falls at the end, as 1 - sqrt (Hägele et
    al. 2024, arXiv:2405.18392), so that a run can be continued from where that began: with 0 it
    does not fall, and another step goes on from there: with `epochs_before` it sees the images in
    the order, the views and the mixtures that come next, not again those of the first epochs.

    A network is often better at a size larger than that it was trained at (Touvron et al. 2019,
    arXiv:1906.06423): `image_size` is that of training alone.
    """

    epochs: Annotated[int, Field(ge=1), WrapValidator(_none_in_keys)]
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd: momentum 0.9, Nesterov
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # not on biases and norms
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha of the Beta distribution; 0 is off
    cutmix: Annotated[float, Field(ge=0)] = 0.0  # likewise; with both, one of them for each batch
    cooldown_epochs: Annotated[float, Field(ge=0)] | None = None  # none: a cosine
    freeze: list[str] = []  # modules that stay as they are; * and ? match
    head_only_epochs: Annotated[int, Field(ge=0)] = 0  # so many first ones train the head alone
    head_lr_factor: Annotated[float, Field(gt=0)] = 1.0  # of the head, on the learning rate
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # of each block, counted from the end
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of the average that is exported
    epochs_before: Annotated[int, Field(ge=0)] = 0  # that steps before have trained: it goes on
    precision: Precision = "auto"
    image_size: ImageSize | None = None  # none: the network's own
    progressive: list[Phase] = []
    augmentation: Augmentation = Augmentation()

    came_later = (
        "image_size", "cutmix", "cooldown_epochs", "freeze", "head_only_epochs", "head_lr_factor",
        "layer_decay", "ema", "epochs_before",
    )  # fmt: skip

    @property
    def asks_for_head(self) -> bool:
        """Whether it matters which modules are the network's head."""
        return (
            self.head_only_epochs > 0
            or self.head_lr_factor != 1
            or self.layer_decay != 1
            or self.augmentation.mirror == "new_class"
        )

    @model_validator(mode="after")
    def _an_epoch_for_each_part(self) -> "TrainSettings":
        if self.head_only_epochs >= max(self.epochs, 1):
            raise ValueError("head_only_epochs must leave at least one epoch for the rest")
        cooldown = self.cooldown_epochs
        if cooldown is not None and self.warmup_epochs + cooldown > self.epochs:
            raise ValueError("warmup_epochs and cooldown_epochs are more than all epochs")
        return self

    @model_validator(mode="after")
    def _phases_leave_an_epoch(self) -> "TrainSettings":
        if sum(phase.epochs for phase in self.progressive) >= max(self.epochs, 1):
            raise ValueError("progressive phases must leave at least one epoch at the full size")
        return self


class ViewSettings(RecipeModel):
    """Which teacher outputs are cached: this many augmented views of each image."""

    count: int
    top_k: int
    unlabelled: bool
    augmentation: Augmentation
    precision: Precision
    attention: bool = False  # where the teacher looks, too
    validation: bool = False  # of validation images, too: to tell how often it is right

    came_later = ("attention", "validation")
