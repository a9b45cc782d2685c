"""Denormals as zero while a runtime computes, in this thread and in those that work for it.

Numbers below 1e-38 make float layers many times slower on some CPUs and pictures. Runtimes that
are asked to take them as zero set this up for the calling thread when they load a model, and for
good: a network trained before and one trained after would differ in their last bits.
"""

import ctypes
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Where in Linux's fenv_t the control word lies, and its bits: flush results, take inputs as zero.
_CONTROL = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
_PLACE = _CONTROL.get(platform.machine()) if sys.platform == "linux" else None


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Sets it for this thread, where it is known how; restores what was before everywhere."""
    try:
        libm = ctypes.CDLL(None)
        get, set_ = libm.fegetenv, libm.fesetenv
    except (AttributeError, OSError, TypeError):  # Windows: its C library keeps it elsewhere
        yield
        return
    before = ctypes.create_string_buffer(256)  # fenv_t has 8 to 32 bytes
    get(before)
    if _PLACE is not None:
        offset, bits = _PLACE
        changed = ctypes.create_string_buffer(before.raw, len(before))
        struct.pack_into("I", changed, offset, struct.unpack_from("I", before, offset)[0] | bits)
        set_(changed)
    try:
        yield
    finally:
        set_(before)
