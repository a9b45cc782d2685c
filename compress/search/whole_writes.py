"""A journal's file: what is decided together is written together, so that no kill comes between."""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class WholeWrites(JournalFileBackend):
    """Optuna's file, to which several operations can be added in one write.

    Nobody else may write to it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        """Open a file, or begin it; what a machine that went off wrote half is cut off.

        Raises:
            ValueError: it is no journal.
        """
        if path.is_file():
            whole, _, torn = path.read_bytes().rpartition(b"\n")
            for line in whole.splitlines():
                json.loads(line)
            os.truncate(path, path.stat().st_size - len(torn))
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        self._held: list[dict[str, Any]] | None = None  # what is to be written; None: no block
        self._before = 0  # operations in the file when the block began

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what the block does when it ends, all of it or nothing; a block may hold others.

        Where an error leaves the block, what it did is known in memory alone: the search must end.
        """
        if self._held is not None:
            yield
            return
        self._before = sum(1 for _ in super().read_logs(0))
        self._held = []
        try:
            yield
            held = self._held
        finally:
            self._held = None
        if held:
            self.append_logs(held)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add operations to the file, or to what the block will write."""
        if self._held is None:
            super().append_logs(logs)
        else:
            self._held += json.loads(json.dumps(logs))  # as they will be read

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the operations from a number on, those that are not yet written, too."""
        if self._held is None or log_number_from < self._before:
            yield from super().read_logs(log_number_from)
        if self._held is not None:
            yield from self._held[max(0, log_number_from - self._before) :]
