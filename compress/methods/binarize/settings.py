"""What becomes binary, and how it is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from compress.methods.distill.settings import Learning
from compress.training.settings import TrainSettings


class Settings(Learning):
    """What becomes binary, and how it is trained in two stages.

    Without a `student` the convolutions of the network before it become binary in place, the first
    one excepted. Adam without weight decay is what binary networks want: `weight_decay` is 0 unless
    given.
    """

    layers: list[str] = ["*"]  # of the network before that become binary; * and ? match
    activations_first: TrainSettings | None = None  # the first stage; none: both at once
    rest: Literal["int8", "float32"] | None = None  # of the real layers; none: what is faster here
    images: Annotated[int, Field(ge=1)] = 128  # of the training split, to find int8's ranges on

    old_names = {"pictures": "images"}
    key_names = {"images": "pictures"}

    @field_validator("train", "activations_first", mode="before")
    @classmethod
    def _without_decay(cls, value: Any) -> Any:
        return {"weight_decay": 0.0} | value if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.student is not None and self.layers != ["*"]:
            raise ValueError("layers are of the network before; a student names its own")
        first = self.activations_first
        if first is not None and first.augmentation != self.train.augmentation:
            raise ValueError(
                "activations_first.augmentation must be train's: both stages see the views that "
                "the teacher was asked about"
            )
        return self

    def stages(self) -> list[tuple[bool, TrainSettings]]:
        """Return whether weights are binary, and the schedule, of each stage of training."""
        first = [] if self.activations_first is None else [(False, self.activations_first)]
        return [*first, (True, self.train)]
