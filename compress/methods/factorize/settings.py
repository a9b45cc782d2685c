"""How layers are split, and what chooses their ranks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.utils.settings import RecipeModel

Share = Annotated[float, Field(gt=0, le=1)]


class Settings(RecipeModel):
    """How layers are split, and by what their ranks are chosen (one of energy, ratio, time)."""

    linear: Literal["svd", "none"] = "svd"
    conv: Literal["tucker2", "spatial", "none"] = "tucker2"  # 1 x 1 convolutions: svd
    energy: Share | None = None  # of the squared singular values to keep
    ratio: Share | None = None  # of a layer's weights to keep
    time: Share | None = None  # of a layer's measured time to keep, with the most weights
    layers: Annotated[list[str], Field(min_length=1)] = ["*"]  # * and ? match
    round_to: Annotated[int, Field(ge=1, le=256)] = 16

    @model_validator(mode="after")
    def _one_rule(self) -> "Settings":
        self.the_one_of("energy", "ratio", "time")
        if self.linear == self.conv == "none":
            raise ValueError("linear and conv are both none: there is nothing to factorize")
        return self
