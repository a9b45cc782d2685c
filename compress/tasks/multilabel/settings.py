"""What a recipe says of several labels an image: where they stand, and how they are learned."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.tasks.settings import LossSettings, TaskSettings
from compress.utils.settings import RecipeModel


class BinaryCrossEntropy(RecipeModel):
    """Of each label alone."""

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"


class Asymmetric(RecipeModel):
    """Ridnik et al. 2021: easy ones count less, easy negatives least of all."""

    name: Literal["asymmetric"]
    gamma_positive: Annotated[float, Field(ge=0)] = 0.0  # of the focus on labels that are missed
    gamma_negative: Annotated[float, Field(ge=0)] = 4.0  # likewise on false alarms
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.05  # negatives less probable count nothing


class Labels(TaskSettings):
    """The columns of 0, 1 and nothing, or the one of separated labels.

    Without either, the labels are all columns that hold nothing else than 0, 1 and nothing. Beside
    `label_column`, `labels` says which there may be, in the order of the network's outputs.
    """

    labels: Annotated[list[str], Field(min_length=1)] | None = None
    label_column: str | None = None
    separator: Annotated[str, Field(min_length=1)] | None = None
    loss: Annotated[BinaryCrossEntropy | Asymmetric, Field(discriminator="name")] = (
        BinaryCrossEntropy()
    )

    @model_validator(mode="after")
    def _a_column_with_its_separator(self) -> Self:
        if (self.label_column is None) != (self.separator is None):
            raise ValueError("label_column and separator go together: give both, or neither")
        if twice := [x for i, x in enumerate(self.labels or []) if x in (self.labels or [])[:i]]:
            raise ValueError(f"labels names {twice[0]} twice")
        return self


class BinaryKD(LossSettings):
    """The teacher's probability of each label alone, softened."""

    name: Literal["binary_kd"] = "binary_kd"
    temperature: Annotated[float, Field(gt=0)] = 1.0
