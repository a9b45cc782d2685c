"""What may be said of int8: ranges, what may be lost, training."""

import warnings
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.methods.distill.settings import Distillation
from compress.utils.settings import Fraction, RecipeModel


class Settings(RecipeModel):
    """How ranges are found, what may be lost, and whether the network is trained for int8."""

    ranges: Literal["minmax", "percentile", "entropy", "mse"] = "mse"  # of activations
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99  # for ranges: percentile
    pictures: Annotated[int, Field(ge=1)] = 128  # of the training split, to find ranges on
    judged: Annotated[int, Field(ge=1)] = 512  # other training pictures, to judge the loss on
    max_accuracy_drop: Fraction = 0.01  # of right answers on the judged pictures, against float
    float_layers: list[str] = []  # stay in float; * and ? match
    bias_correction: bool = False
    portable: bool = True  # 7-bit weights: right on CPUs without VNNI too; false: 8 bits
    reduce_range: Annotated[bool | None, Field(exclude=True, deprecated=True)] = None  # portable
    train: Distillation | None = None  # quantization-aware training from the teacher; none: no

    @model_validator(mode="before")
    @classmethod
    def _takes_the_old_name(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "reduce_range" not in value:
            return value
        if "portable" in value:
            raise ValueError("reduce_range is the old name of portable: give portable alone")
        old = value["reduce_range"]
        now = (
            f"portable: {str(old).lower()}"
            if isinstance(old, bool)
            else "portable, true unless given"
        )
        warnings.warn(f"quantize.reduce_range is now {now}", FutureWarning, stacklevel=1)
        return value | {"portable": old} if isinstance(old, bool) else value
