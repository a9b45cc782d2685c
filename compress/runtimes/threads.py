"""How the threads of a timed process wait and where they run: told, not left to the shell."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Each changes how long idle threads spin, how many there are, or where they run. A number must not
# depend on what the shell that started `compress` happened to set.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_DYNAMIC",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
)


def environment() -> dict[str, str]:
    """The environment of a timed process: this one's without VARIABLES."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}


@contextmanager
def on_first_cpu(threads: int) -> Iterator[None]:
    """Keeps the calling thread on the first of the CPUs that it may use, for a while.

    The others are for the threads that work for it; not where there are fewer CPUs than threads.
    """
    own = cpus()
    if not 1 < threads <= len(own):
        yield
        return
    os.sched_setaffinity(0, own[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def cpus() -> list[int]:
    """Numbers of the CPUs that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
