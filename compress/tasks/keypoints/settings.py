"""What a recipe says of points: the columns they are annotated in, and losses of coordinates."""

from typing import Annotated, Literal

from pydantic import Field

from compress.tasks.settings import LossSettings, TaskSettings


class Columns(TaskSettings):
    """The points' names, and the columns that they are annotated in."""

    names: list[str]
    columns: list[str]


class Points(LossSettings):
    """Where the teacher says that points are: smooth L1 of the coordinates."""

    name: Literal["points"] = "points"


class PointsAndAttention(LossSettings):
    """As `points`, and the student is to look where the teacher looks: attention transfer
    (Zagoruyko & Komodakis 2017) from the last map of the one to that of the other.
    """

    name: Literal["points_and_attention"]
    weight: Annotated[float, Field(gt=0)] = 0.01  # of the attention's squared distance, 0 to 2

    @property
    def attention(self) -> float:
        """The weight."""
        return self.weight
