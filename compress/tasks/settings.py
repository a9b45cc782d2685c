"""What a recipe may say of a task, and of a loss against the teacher; no torch here."""

from typing import Literal

from compress.utils.settings import RecipeModel


class TaskSettings(RecipeModel):
    """What `data.task` may say of a task that asks nothing."""


class LossSettings(RecipeModel):
    """One way to learn from the teacher, told from the others by its name.

    The first of a task's losses can be made of nothing: its name has a default.
    """

    name: str

    @property
    def attention(self) -> float:
        """The weight of looking where the teacher looks; 0: that is not asked for."""
        return 0.0


class Match(LossSettings):
    """Mean squared difference of all outputs, each in units of its own spread in the batch."""

    name: Literal["match"] = "match"
