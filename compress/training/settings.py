"""Settings of training that recipes hold. Importing this never imports torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.utils.settings import Fraction, ImageSize, RecipeModel

TRAINING_VERSION = 1  # of the loop and the augmentation: part of every trained stage's key
Precision = Literal["auto", "float32", "bfloat16", "float16"]  # auto: what is fastest here


class Augmentation(RecipeModel):
    """Light augmentation; each number is the largest change, drawn uniformly. There are no flips:
    for many things (a whale's head, a text) the mirror image is another thing.
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1  # zoom by 1 / (1 ± scale)
    shift: Fraction = 0.05  # of the image's width and height
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.2  # factor 1 ± brightness
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2  # factor 1 ± contrast around the mean
    erase: Fraction = 0.0  # side of a square set to the image's mean, of the image's side

    @classmethod
    def none(cls) -> "Augmentation":
        """Return what leaves an image as it is."""
        return cls(rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0)


class Phase(RecipeModel):
    """So many first epochs at a smaller image size (progressive resizing)."""

    epochs: Annotated[int, Field(gt=0)]
    image_size: ImageSize


class TrainSettings(RecipeModel):
    """How a network is trained: cosine schedule with linear warm-up, one seed, one loop.

    A network is often better at a size larger than that it was trained at (Touvron et al. 2019,
    arXiv:1906.06423): `image_size` is that of training alone.
    """

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd: momentum 0.9, Nesterov
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # not on biases and norms
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha of the Beta distribution; 0 is off
    precision: Precision = "auto"
    image_size: ImageSize | None = None  # none: the network's own
    progressive: list[Phase] = []
    augmentation: Augmentation = Augmentation()

    came_later = ("image_size",)

    @model_validator(mode="after")
    def _phases_leave_an_epoch(self) -> "TrainSettings":
        if sum(phase.epochs for phase in self.progressive) >= self.epochs:
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
