"""What a search did, as its report tells it: trials, what each cost, and what the proof was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from compress.results.schema import Result
from compress.utils.errors import UserError
from compress.utils.interval import Interval
from compress.utils.record import Record

FILE = "search.json"
# complete: with all its epochs. stopped: others promise more. slow: no training would make it fast
# enough. failed: for a reason that the user can mend. begun: the time was up.
State = Literal["complete", "stopped", "slow", "failed", "begun"]


class Piece(Record):
    """Something that was done for a trial, without a break."""

    what: Literal["timed", "trained"]  # untrained, to be timed; or up to a rung, and judged
    begun_s: float  # of the search's own time, which stands still while nothing runs
    seconds: float
    epochs: int | None = None  # in all, at the end of it; None: it does not train
    accuracy: float | None = None  # on the searched images
    projected: Interval | None = None  # the accuracy with all epochs
    speedup: float | None = None  # against the teacher in the same runtime, the largest of them

    @property
    def trained(self) -> bool:
        """Whether it came to a rung; a training that failed or was interrupted did not."""
        return self.what == "trained" and self.accuracy is not None


class Trial(Record):
    """One candidate, as far as it was taken."""

    number: int
    candidate: str
    family: str  # the candidate as the recipe writes it, of whose lists of values this is a point
    state: State
    why: str  # it ended, in a sentence
    pieces: list[Piece]

    @property
    def seconds(self) -> float:
        """The time that it took."""
        return sum(piece.seconds for piece in self.pieces)


class Pick(Record):
    """From this time on a candidate was the best that meets the budget, by the searched images."""

    at_s: float
    candidate: str
    epochs: int | None
    accuracy: float
    speedup: float | None


class Proof(Record):
    """The last pick on the images that the search never saw, beside those that it was chosen by."""

    candidate: str
    runtime: str
    on: str  # which images
    images: int
    accuracy: Interval
    drop: Interval | None  # against the teacher on the same images, paired
    searched_images: int
    searched_accuracy: Interval
    searched_drop: Interval | None

    @property
    def flattery(self) -> float | None:
        """How much better the searched images made it look against the teacher."""
        if self.drop is None or self.searched_drop is None:
            return None
        return self.drop.value - self.searched_drop.value


class Search(Record):
    """The whole of it."""

    asked: str
    within_s: float
    spent_s: float
    overhead_s: float  # of this, what was neither training nor measuring
    ended: str  # why, in a sentence
    trials: list[Trial]
    picks: list[Pick]
    proofs: list[Proof]
    said: list[str]  # what else a reader must know
    searched: list[Result] = []  # rows of the last picks and the teacher that the pick is chosen of


def search_of(reports: Sequence[Path]) -> Search | None:
    """Return what the search did that a single report is of, if it is of one.

    Raises:
        UserError: its file is damaged.
    """
    if len(reports) != 1 or not (file := reports[0] / FILE).is_file():
        return None
    try:
        return Search.model_validate_json(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged: search again, or remove it. ({error})") from error
