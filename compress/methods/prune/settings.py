"""What pruning aims at, and which channels are worth most."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.training.settings import Precision
from compress.utils.settings import RecipeModel


class Settings(RecipeModel):
    """What to aim at (one of ratio, macs, speedup), and which channels are worth most."""

    ratio: Annotated[float, Field(ge=0, lt=1)] | None = None  # share of the channels to remove
    macs: Annotated[float, Field(gt=0, le=1)] | None = None  # share of the MACs to keep
    speedup: Annotated[float, Field(ge=1)] | None = None  # against the teacher, onnxruntime float32
    importance: Literal["magnitude", "bn_scale", "taylor"] = "taylor"
    scope: Literal["global", "uniform"] = "global"  # uniform: the same share of every layer
    round_to: Annotated[int, Field(ge=1, le=256)] = 16  # runtimes compute in blocks of channels
    images: Annotated[int, Field(ge=1)] = 256  # that taylor looks at
    precision: Precision = "auto"  # that taylor computes in
    ignore: list[str] = []  # layers that keep their width; * and ? match

    old_names = {"pictures": "images"}
    key_names = {"images": "pictures"}

    @model_validator(mode="after")
    def _one_target(self) -> "Settings":
        self.the_one_of("ratio", "macs", "speedup")
        return self
