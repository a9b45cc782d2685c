"""What a run says while it works: a tree of stages, and within training how it goes.

On a terminal it is live; elsewhere (a log file, CI) it is one line per event. Stages that run on
other machines say the same there and send it here, see `Sent`.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

_MARKS = {
    "waiting": "[dim]○[/]",
    "running": "[yellow]▶[/]",
    "done": "[green]✔[/]",
    "reused": "↻",
    "failed": "[red]✘[/]",
    "skipped": "[dim]–[/]",
}
LOG_INTERVAL_S = 60
SENT_INTERVAL_S = 1.0


class Progress:
    """Receives events from stages; shows them and appends them to a log."""

    def __init__(
        self,
        console: Console,
        log: Path | None = None,
        on_epoch: Callable[[str, int, dict[str, float]], None] = lambda *_: None,
    ) -> None:
        """
        Args:
            on_epoch: is told the stage's title, the epoch (the first is 1), and its numbers.
        """
        self.console = console
        self._on_epoch = on_epoch
        self._key = ""  # of the stage that was begun last, or that something is told of
        self.live: Live | None = None
        self.titles: dict[str, str] = {}
        self.states: dict[str, tuple[str, str]] = {}
        self.lines: dict[str, str] = {}  # of stages that run, how far they are
        self._told: set[str] = set()  # what is said once, however often it is the case
        self._started = self._shown = time.perf_counter()
        self._first: tuple[float, float] | None = None  # epochs done and time, of this stage
        self._log: TextIO | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            # Names of files need not be text.
            self._log = log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    @contextmanager
    def tree(self, titles: dict[str, str]) -> Iterator[None]:
        """Shows the stages (key to title, in order) until the block ends."""
        self.titles = titles
        self.states = dict.fromkeys(titles, ("waiting", ""))
        try:
            if not self.console.is_terminal:
                yield
                return
            with Live(self._render(), console=self.console, refresh_per_second=4) as self.live:
                yield
                self.lines = {}
                self.live.update(self._render())
        finally:
            self.live = None

    def stage(self, key: str, state: str, detail: str = "") -> None:
        """A stage changes to running, done, reused, failed or skipped."""
        self.states[key] = (state, detail)
        self._key = key
        self._started = self._shown = time.perf_counter()
        self._first = None
        if state != "reused" or key not in self._told:
            self._say(f"{self.titles[key]}: {state}{' ' + detail if detail else ''}")
        if state in ("done", "reused"):
            self._told.add(key)
        self._refresh("")

    def instead(self, key: str, other: str, title: str) -> None:
        """Another stage takes the place of one that waits at the end."""
        del self.titles[key], self.states[key]
        self.titles[other], self.states[other] = title, ("waiting", "")

    def note(self, text: str) -> None:
        """Something worth keeping: shown above the tree and logged."""
        self._say(text)
        if self.live is not None:
            self.console.print(f"  {text}", markup=False, highlight=False)

    def once(self, text: str) -> None:
        """Note something that holds for all that is shown here."""
        if text not in self._told:
            self._told.add(text)
            self.note(text)

    def failed(self, error: Exception) -> None:
        """Keeps in the log why a run ended, with the traceback that users are spared."""
        if self._log is not None:
            self._log.write("".join(traceback.format_exception(error)))

    def received(self, key: str, what: str, given: Any) -> None:
        """Another machine says something of a stage: what `Sent` sends, or its state."""
        if key not in self.titles:
            return
        if what == "stage":
            self.stage(key, *given)
            return
        self._key = key
        title = self.titles[key]
        if what == "note":
            self.note(f"{title}: {given}")
        elif what == "say":
            self._say(f"  {title}: {given}")
        elif what == "line":
            self._refresh(given)
        elif what == "epoch":
            self._tell_epoch(*given)

    def training(self, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """One training step."""
        done = epoch + step / steps
        if self._first is None:
            self._first = (done, time.perf_counter())
            return
        first, at = self._first
        left = (time.perf_counter() - at) / max(done - first, 1e-9) * (epochs - done)
        self._status(
            f"epoch {epoch + 1}/{epochs}, step {step}/{steps}, loss {loss:.3f}, "
            f"{_duration(left)} left"
        )

    def epoch(
        self,
        number: int,
        epochs: int,
        loss: float,
        top1: float | None,
        images_per_s: float,
        seconds: float,
    ) -> None:
        """An epoch is finished and saved; the first is number 1."""
        shown = "" if top1 is None else f", {top1:.1%} of validation right"
        left = _duration(seconds * (epochs - number))
        said = f"epoch {number}/{epochs}: loss {loss:.3f}{shown}, {images_per_s:.0f} images/s"
        self._say(f"  {said}, {left} left")
        self._refresh(said)
        right = {} if top1 is None else {"validation": top1}
        self._tell_epoch(number, {"loss": loss, **right, "images_per_s": images_per_s})

    def advance(self, done: int, total: int) -> None:
        """So much of a stage is done."""
        left = (time.perf_counter() - self._started) / max(done, 1) * (total - done)
        self._status(f"{done}/{total}, {_duration(left)} left")

    def _status(self, line: str) -> None:
        """A line that the next one replaces; in a log, one a minute."""
        now = time.perf_counter()
        if self.live is not None:
            if now - self._shown > 0.2:
                self._shown = now
                self._refresh(line)
        elif now - self._shown > LOG_INTERVAL_S:
            self._shown = now
            self._say(f"  {line}")

    def _say(self, text: str) -> None:
        if self._log is not None:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if self.live is None:
            self.console.print(text, markup=False, highlight=False)

    def _tell_epoch(self, number: int, numbers: dict[str, float]) -> None:
        self._on_epoch(self.titles.get(self._key, ""), number, numbers)

    def _refresh(self, line: str) -> None:
        self.lines[self._key] = line
        if self.live is not None:
            self.live.update(self._render())

    def _render(self) -> RenderableType:
        tree = Tree("stages", guide_style="dim", hide_root=True)
        for key, title in self.titles.items():
            state, detail = self.states[key]
            text = Text.from_markup(f"{_MARKS[state]} ")
            text.append(title)
            text.append(f"  {'re-used' if state == 'reused' else detail}", style="dim")
            branch = tree.add(text)
            if state == "running" and self.lines.get(key):
                branch.add(Text(self.lines[key]))
        return Group(tree)


class Sent(Progress):
    """Says what a stage says on another machine where it is seen, see `Progress.received`.

    Args:
        send: is given what happens, and with what.
    """

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(Console(quiet=True))
        self._send = send

    def __reduce__(self) -> tuple[type["Sent"], tuple[Callable[[str, Any], None]]]:
        return Sent, (self._send,)

    def note(self, text: str) -> None:
        self._send("note", text)

    def _say(self, text: str) -> None:
        self._send("say", text.strip())

    def _status(self, line: str) -> None:
        now = time.perf_counter()
        if now - self._shown > SENT_INTERVAL_S:
            self._shown = now
            self._refresh(line)

    def _refresh(self, line: str) -> None:
        self._send("line", line)

    def _tell_epoch(self, number: int, numbers: dict[str, float]) -> None:
        self._send("epoch", (number, numbers))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
