"""Who computes a stage of a shared store just now: a file that its run keeps renewing.

It is created exclusively where the store can do that. A claim that nobody renews is of a run that
died: another takes it over. How old it is, the one who waits measures: clocks differ.
"""

import hashlib
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compress.workflow.shared import Shared

BEAT_S = 10.0
STALE_S = 60.0  # without a beat
AT_ONCE = 8  # claims that are renewed at once: of a slow store, too, each in time


class Claims:
    """The claims of one run.

    Args:
        run: what the run is called; one that died is called the same when it goes on.
    """

    def __init__(self, shared: "Shared", run: str) -> None:
        self.shared, self.run = shared, run
        self._held: set[str] = set()
        self._seen: dict[str, tuple[bytes | None, float]] = {}  # others' claims, since when
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Return whether the stage is this run's to compute from now on."""
        there = self.shared.read(_file(name))
        if there is not None:
            if not self._is_own(there) and not self._is_stale(_file(name), there):
                return False
            if not self._remove(_file(name), there):
                return False
        if not self.shared.create(_file(name), self._content()):
            return False
        self._held.add(name)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_beating, daemon=True)
            self._thread.start()
        return True

    def release(self, name: str) -> None:
        """Leave a stage to others: it is finished, or failed."""
        if name in self._held:
            self._held.discard(name)
            if self._is_own(self.shared.read(_file(name))):
                self.shared.remove(_file(name))

    def _remove(self, file: str, there: bytes) -> bool:
        """Remove a claim that a run left; return whether it was this one that did.

        Of those that saw the same, one creates a file that is called after what they saw, and only
        that one removes it. If it dies over that, its file gets as old as a claim does.
        """
        marker = f"{file}.{hashlib.sha256(there).hexdigest()[:16]}"
        if not self.shared.create(marker, self._content()):
            left = self.shared.read(marker)
            if left is None or not self._is_stale(marker, left) or not self._remove(marker, left):
                return False
            if not self.shared.create(marker, self._content()):
                return False
        is_as_seen = self.shared.read(file) == there
        if is_as_seen:
            self.shared.remove(file)
        self.shared.remove(marker)
        return is_as_seen

    def _content(self) -> bytes:
        """Return what is in a claim; it is never the same twice."""
        return json.dumps({"run": self.run, "beat": uuid.uuid4().hex}).encode()

    def _is_own(self, content: bytes | None) -> bool:
        try:
            return bool(json.loads(content or b"{}")["run"] == self.run)
        except (ValueError, KeyError, TypeError):  # half of one
            return False

    def _is_stale(self, file: str, content: bytes) -> bool:
        """Return whether what another wrote has been the same for long."""
        now = time.monotonic()
        before, since = self._seen.get(file, (None, now))
        if before != content:
            since = now
        self._seen[file] = content, since
        return now - since > STALE_S

    def _keep_beating(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool, suppress(RuntimeError):  # this process ends
            while True:
                time.sleep(BEAT_S)
                list(pool.map(self._beat, list(self._held)))

    def _beat(self, name: str) -> None:
        """Renew a claim, unless another run has taken it over."""
        try:
            if not self._is_own(self.shared.read(_file(name))):
                self._held.discard(name)
                return
            self.shared.write(_file(name), self._content())
            if name not in self._held:  # released meanwhile
                self.shared.remove(_file(name))
        except Exception:  # whoever writes the stage's files says it
            return


def _file(name: str) -> str:
    return f"claims/{name}"
