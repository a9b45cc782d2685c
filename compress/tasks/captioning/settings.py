"""What a recipe says of captions: where they stand, how long they are, which facts they tell."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.tasks.captioning.words import words_of
from compress.tasks.settings import LossSettings, TaskSettings
from compress.utils.settings import RecipeModel, sides

Side = Annotated[int, Field(ge=1, le=64)]  # in cells
Phrase = Annotated[str, Field(min_length=1)]


class Looks(RecipeModel):
    """A word, and the box in which the network is to look when it says it.

    The box is x, y, width and height in pixels of the upright image, by the columns' names.
    """

    words: Annotated[list[Phrase], Field(min_length=1)]
    box: Annotated[list[str], Field(min_length=4, max_length=4)] = ["x", "y", "width", "height"]


class Captions(TaskSettings):
    """Columns of captions, several rows of an image, or both.

    `columns` are by default those called caption, captions, caption_1… `grid` is the map whose
    places the network looks at, a side or height and width; `steps` the words that a sentence has
    at most. A word is one that so many training captions have (`min_count`).

    `facts` are told by phrases: `sea: [calm sea, [rough sea, whitecaps]]` are the two things that
    may be true of the sea, and the second is said in two ways.
    """

    columns: Annotated[list[str], Field(min_length=1)] | None = None
    steps: Annotated[int, Field(ge=2, le=100)] = 16
    grid: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] = 6
    min_count: Annotated[int, Field(ge=1)] = 1
    facts: dict[str, Annotated[list[Phrase | list[Phrase]], Field(min_length=2)]] = {}
    looks: Looks | None = None
    # Weight of the doubly stochastic regularization: over a sentence, each place is seen alike.
    doubly_stochastic: Annotated[float, Field(ge=0)] = 0.1

    @model_validator(mode="after")
    def _words_that_can_be_found(self) -> Self:
        for name, values in self.facts.items():
            phrases = [
                x for value in values for x in ([value] if isinstance(value, str) else value)
            ]
            read = [words_of(x) for x in phrases]
            if [] in read:
                raise ValueError(f"facts.{name}: {phrases[read.index([])]!r} has no word")
            if twice := [x for i, x in enumerate(phrases) if read[i] in read[:i]]:
                raise ValueError(f"facts.{name} has the phrase {twice[0]!r} twice")
        if self.looks and (long := [x for x in self.looks.words if len(words_of(x)) != 1]):
            raise ValueError(f"looks.words: {long[0]!r} is not one word")
        return self

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the map."""
        return sides(self.grid)


class WordKD(LossSettings):
    """Kim & Rush 2016, arXiv:1606.07947: the teacher's probabilities of each word of its sentence.

    The student is told the teacher's words, so that both say the next word of the same beginning.
    """

    name: Literal["word_kd"] = "word_kd"
    temperature: Annotated[float, Field(gt=0)] = 1.0
