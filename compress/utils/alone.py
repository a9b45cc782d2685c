"""Lets the runs on a machine take turns: what is timed is timed alone, trainings wait meanwhile.

Locks are files in a folder of the user's own below the system's temporary one, so that runs of one
user see each other. A process that dies gives its locks back. Where no lock can be made, a run goes
on without and says so once.
"""

import getpass
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from filelock import ReadWriteLock, Timeout

TIMING = "timing"
PATIENCE_S = 1.0  # a shorter wait, as for the end of a training's step, is not worth a line
LEAST_S = 0.25  # between two pauses: to let others in costs a millisecond, a step may take less
_WAITS = {
    TIMING: "Waits until another run on this machine has timed what it is timing, or ended its "
    "step of training."
}
_PAUSES = "The training waits while another run on this machine times something."

Note = Callable[[str], object]
Item = TypeVar("Item")

_held: set[str] = set()  # what this process holds alone
_unavailable: list[Exception] = []  # why there is no lock, once that was told
_here = threading.local()  # `turns` of the training that runs in this thread


def to_stderr(text: str) -> None:
    """Say something where there is no better place."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def alone_on_machine(name: str, on_wait: Note = to_stderr) -> Iterator[None]:
    """Hold what no other process on this machine holds meanwhile, first waiting for it.

    What this process holds already it may hold again. `TIMING` waits for the step of every
    training on the machine, and no other step begins until it ends.

    Args:
        name: what is done alone, as part of a sentence and of a file's name: "search".
        on_wait: is told in a sentence what is waited for, or why nothing can be.
    """
    if name in _held:
        yield
        return
    waits = _WAITS.get(name, f"Waits until another {name} on this machine has ended.")
    with _own_training_rests(name):
        lock = _taken(name, False, waits, on_wait)
        _held.add(name)
        try:
            yield
        finally:
            _held.discard(name)
            if lock is not None:
                lock.release()


class Turns:
    """A training, between whose steps other processes may time something alone.

    Attributes:
        waited_s: seconds that it has waited for them.
    """

    def __init__(self, note: Note) -> None:
        """
        Args:
            note: is told the first time that it has to wait for long.
        """
        self.waited_s = 0.0
        self._note = note
        self._said = False
        self._lock: ReadWriteLock | None = None
        self._since = 0.0

    def __enter__(self) -> Self:
        self.take()
        _here.turns = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.turns = None
        self.give()

    def between(self, steps: Iterable[Item]) -> Iterator[Item]:
        """Give the steps; after one, what others have to time goes first."""
        for step in steps:
            yield step
            if time.perf_counter() - self._since > LEAST_S:
                self.give()
                self.take()

    def take(self) -> None:
        """Keep others from timing, after what they are timing."""
        started = time.perf_counter()
        if TIMING not in _held:
            self._lock = _taken(TIMING, True, _PAUSES, self._say)
        self._since = time.perf_counter()
        self.waited_s += self._since - started

    def give(self) -> None:
        """Let others time something."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            self._note(text)


@contextmanager
def _own_training_rests(name: str) -> Iterator[None]:
    """Let in what a training itself times, which would wait for its own step for ever."""
    turns: Turns | None = getattr(_here, "turns", None) if name == TIMING else None
    if turns is None:
        yield
        return
    turns.give()
    try:
        yield
    finally:
        turns.take()


def _taken(name: str, shared: bool, waits: str, note: Note) -> ReadWriteLock | None:
    """Wait for a lock and take it; None where none can be made, which is told once."""
    timeout = PATIENCE_S
    while True:
        try:
            lock = ReadWriteLock(folder() / f"{name}.lock", is_singleton=False)
            (lock.acquire_read if shared else lock.acquire_write)(timeout)
            return lock
        except Timeout:
            pass
        except Exception as error:  # whatever keeps locks from working must not end a run
            if not _unavailable:
                _unavailable.append(error)
                note(
                    "Other runs on this machine are not waited for and may disturb what is timed: "
                    f"no lock can be made ({error}). Set TMPDIR to a folder of your own."
                )
            return None
        if timeout > 0:
            note(waits)
            timeout = -1


def folder() -> Path:
    """Return this user's folder of locks, made where it is missing.

    Raises:
        OSError: it cannot be made, or somebody else made it.
    """
    unix = hasattr(os, "getuid")
    user = os.getuid() if unix else getpass.getuser()
    path = Path(tempfile.gettempdir()) / f"compress-{user}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()  # of a link itself: everybody may make one in a temporary folder
    own = not unix or (found.st_uid == user and not found.st_mode & 0o022)
    if not (stat.S_ISDIR(found.st_mode) and own):
        raise PermissionError(f"{path} is no folder that only you may write to")
    return path
