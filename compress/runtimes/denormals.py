"""Denormals as zero while a runtime computes, in this thread and in those that work for it.

Numbers below 1e-38 make float layers many times slower on some CPUs and images. Runtimes that
are asked to take them as zero set this up for the calling thread when they load a model, and for
good: a network trained before and one trained after would differ in their last bits.
"""

import ctypes
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

# Where in Linux's fenv_t the control word lies, and its bits: flush results, take inputs as zero.
_CONTROL = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
_PLACE = _CONTROL.get(platform.machine()) if sys.platform == "linux" else None


_Environment = ctypes.c_char * 256  # fenv_t has 8 to 32 bytes


@cache
def _libm() -> tuple[Callable[[object], int], Callable[[object], int]] | None:
    """fegetenv and fesetenv; None where they are not to be had."""
    try:
        libm = ctypes.CDLL(None)
        return libm.fegetenv, libm.fesetenv
    except (AttributeError, OSError, TypeError):  # Windows: its C library keeps it elsewhere
        return None


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Sets it for this thread, where it is known how; restores what was before everywhere.

    Around every call of a runtime: every microsecond of it is measured, too.
    """
    if (functions := _libm()) is None:
        yield
        return
    get, set_ = functions
    before = _Environment()
    get(before)
    if _PLACE is not None:
        offset, bits = _PLACE
        changed = _Environment.from_buffer_copy(before)
        ctypes.c_uint32.from_buffer(changed, offset).value |= bits
        set_(changed)
    try:
        yield
    finally:
        set_(before)
