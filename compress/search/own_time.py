"""The search's own time, which stands still while nothing runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from compress.search.journal import SPENT, Journal


class OwnTime:
    """What was spent, kept in the journal so that a kill loses an epoch of it at most."""

    def __init__(
        self, journal: Journal, clock: Callable[[], float], began: float, limit_s: float
    ) -> None:
        """
        Args:
            began: when the search began, or went on, by the clock.
            limit_s: when nothing more is begun; may be set anew.
        """
        self.limit_s = limit_s
        self._journal, self._clock = journal, clock
        self._begun_s = began - journal.noted(SPENT, 0.0)

    @property
    def spent_s(self) -> float:
        """What was spent so far."""
        return self._clock() - self._begun_s

    @property
    def left_s(self) -> float:
        """What is left; below 0 when the limit is passed."""
        return self.limit_s - self.spent_s

    def note(self) -> None:
        """Keep what was spent so far."""
        self._journal.note(SPENT, self.spent_s)

    def is_up_after_epoch(self) -> bool:
        """Keep what was spent, and return whether no further epoch should be begun."""
        self.note()
        return self.left_s < 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what was spent however the block ends, by a key or by an error, too."""
        try:
            yield
        finally:
            with suppress(OSError):  # of a full disk the error that ended the block tells
                self.note()
