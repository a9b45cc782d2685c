"""Who computes a stage of a shared store just now: a file that its run keeps renewing.

It is created exclusively where the store can do that. A claim that nobody renews is of a run that
died: another takes it over. How old it is, the one who waits measures: clocks differ.
"""

import json
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compress.workflow.shared import Shared

BEAT_S = 10.0
STALE_S = 60.0  # without a beat


class Claims:
    """The claims of one run.

    Args:
        run: what the run is called; one that died is called the same when it goes on.
    """

    def __init__(self, shared: "Shared", run: str) -> None:
        self.shared, self.run = shared, run
        self._held: set[str] = set()
        self._seen: dict[str, tuple[bytes | None, float]] = {}  # others' claims, since when
        self._beats = 0
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Return whether the stage is this run's to compute from now on."""
        there = self.shared.read(_file(name))
        if there is not None:
            if not self._is_own(there) and not self._is_stale(name, there):
                return False
            self.shared.remove(_file(name))
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
            self.shared.remove(_file(name))

    def _content(self) -> bytes:
        return json.dumps({"run": self.run, "beat": self._beats}).encode()

    def _is_own(self, content: bytes) -> bool:
        try:
            return bool(json.loads(content)["run"] == self.run)
        except (ValueError, KeyError, TypeError):  # half of one
            return False

    def _is_stale(self, name: str, content: bytes) -> bool:
        """Return whether another's claim has been the same for long."""
        now = time.monotonic()
        before, since = self._seen.get(name, (None, now))
        if before != content:
            since = now
        self._seen[name] = content, since
        return now - since > STALE_S

    def _keep_beating(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self._beats += 1
            for name in list(self._held):
                try:
                    self.shared.write(_file(name), self._content())
                except Exception:  # whoever writes the stage's files says it
                    continue
                if name not in self._held:  # released meanwhile
                    self.shared.remove(_file(name))


def _file(name: str) -> str:
    return f"claims/{name}"
