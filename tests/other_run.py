"""Another run on this machine: a real process that holds a lock, or waits for it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONG_S = 60  # what must happen at all has so long
# Holds a lock until it is told to go on, or its time is over; says what it does.
ALONE = """
import select, sys
from compress.utils import alone
alone.PATIENCE_S = 0.05
name, *seconds = sys.argv[1:]
with alone.alone_on_machine(name, lambda text: print("told:", text, flush=True)):
    print("held", flush=True)
    select.select([sys.stdin], [], [], *map(float, seconds))
print("left", flush=True)
"""


@contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run code until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], limit_s: float = LONG_S) -> str:
    """Wait for the next line that it prints; none if it has ended, or is killed for saying none."""
    assert process.stdout is not None
    silent = threading.Timer(limit_s, process.kill)
    silent.start()
    try:
        return process.stdout.readline().strip()
    finally:
        silent.cancel()


def go_on(process: subprocess.Popen[str]) -> None:
    """Tell it to leave."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
