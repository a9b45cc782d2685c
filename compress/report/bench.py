"""What `compress bench` found, in a terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compress.utils import units
from compress.utils.text import plain

if TYPE_CHECKING:
    from compress.measure.bench import Timing


def show_timings(
    timings: Sequence["Timing"], threads: int, processes: int, console: Console | None = None
) -> None:
    """Print a row a file, runtime and batch; what was disturbed is said below."""
    console = console or Console(width=None if sys.stdout.isatty() else 100)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("runtime")
    for heading in ("batch", "ms", "p95 ms", "images per s", "times faster (95 %)"):
        table.add_column(heading, justify="right")
    names = _short([timing.file for timing in timings])
    for timing in timings:
        latency = timing.latency
        table.add_row(
            Text(plain(names[timing.file])),
            timing.runtime,
            str(latency.batch),
            units.ms(latency.median_s),
            units.ms(latency.p95_s),
            units.significant(latency.images_per_s),
            units.times_interval(timing.speedup),
        )
    console.print(table)
    console.print(
        f"{threads} threads, {processes} fresh processes, inputs in memory. ms: median of the "
        "processes' medians. Times faster: than the first file in the same runtime, the median "
        "over processes of each one's median paired ratio; the interval counts how processes "
        "differ.",
        style="dim",
    )
    for warning in dict.fromkeys(w for timing in timings for w in timing.latency.warnings):
        console.print(plain(warning))


def _short(files: Sequence[str]) -> dict[str, str]:
    """Return the end of each path that tells it from the others."""
    shown = {}
    for file in files:
        parts = Path(file).parts
        others = [Path(other).parts for other in files if other != file]
        length = 1
        while length < len(parts) and any(o[-length:] == parts[-length:] for o in others):
            length += 1
        shown[file] = str(Path(*parts[-length:]))
    return shown
