"""What may be said of int8: ranges, what may be lost, training."""

from typing import Annotated, Literal

from pydantic import Field

from compress.methods.distill.settings import Distillation
from compress.utils.settings import Fraction, RecipeModel


class Settings(RecipeModel):
    """How ranges are found, what may be lost, and whether the network is trained for int8."""

    ranges: Literal["minmax", "percentile", "entropy", "mse"] = "mse"  # of activations
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99  # for ranges: percentile
    images: Annotated[int, Field(ge=1)] = 128  # of the training split, to find ranges on
    judged: Annotated[int, Field(ge=1)] = 512  # other training images, to judge the loss on
    max_drop_vs_float: Fraction = 0.01  # of right answers on the judged images
    float_layers: list[str] = []  # stay in float; * and ? match
    bias_correction: bool = False
    portable: bool = True  # 7-bit weights: right on CPUs without VNNI too; false: 8 bits
    train: Distillation | None = None  # quantization-aware training from the teacher; none: no

    old_names = {
        "max_accuracy_drop": "max_drop_vs_float",
        "reduce_range": "portable",
        "pictures": "images",
    }
    key_names = {"max_drop_vs_float": "max_accuracy_drop", "images": "pictures"}
