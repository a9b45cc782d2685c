"""Artifact -> session: what loads a deployed file and runs it, one file per runtime.

Each is a subclass of `base.Runtime` in a module here, or of another package, named by an entry
point of the group `compress.runtimes`.
"""

import importlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from compress.results.schema import Deployed
from compress.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from compress.runtimes.base import Runtime

GROUP = "compress.runtimes"  # of entry points: further runtimes, each a subclass of Runtime
OWN = ("onnxruntime", "openvino")  # modules here


# Where a file keeps what it answered when it was judged, see compress/export/reference_answers.py.
REFERENCE_KEY = "compress.reference"

# What images can be fed as.
FLOATS = ("float32", "float16", "float64")


class Entry(NamedTuple):
    """An input of a file."""

    name: str
    dtype: str  # as NumPy calls it, or the runtime where NumPy has none
    shape: tuple[int | None, ...]  # None: free

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


class AnyFile(Protocol):
    """A loaded file with any inputs."""

    inputs: tuple[Entry, ...]
    spec: str | None  # the InputSpec that the file carries, as JSON
    reference: str | None  # its answers when it was judged, as JSON

    def call(self, arrays: "Sequence[np.ndarray]") -> "list[np.ndarray]":
        """Return all outputs in the file's order, of the types that they have.

        Args:
            arrays: one for each input, of its type.
        """


class Session(Protocol):
    """A loaded model that takes images."""

    channels: int | None  # of an image; None: any
    image_size: tuple[int, int]  # height, width
    batch_size: int | None  # None: any
    spec: str | None  # the InputSpec that the file carries, as JSON
    reference: str | None  # its answers when it was judged, as JSON
    outputs: tuple[str, ...]  # the file's names for them

    def run(self, images: "np.ndarray") -> "dict[str, np.ndarray]":
        """Return the outputs by the file's names for them, float32 (n, …).

        Args:
            images: float32 (n, channels, height, width), normalised, whatever the file takes.
        """


@cache
def discover() -> "dict[str, Runtime]":
    """Return all runtimes by name: ours in the order of OWN, then those of other packages."""
    from compress.runtimes.base import Runtime

    own = [importlib.import_module(f"{__name__}.{module}") for module in OWN]
    found = [
        thing
        for module in own
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, Runtime) and thing is not Runtime
    ]
    installed = [entry.load() for entry in entry_points(group=GROUP)]
    return {cls.name: cls() for cls in (*found, *installed)}


def runtime_named(name: str) -> "Runtime":
    """Return a runtime by its name.

    Raises:
        UserError: none of that name is installed here.
    """
    if name not in discover():
        raise UserError(f"No runtime {name!r}: choose of {', '.join(discover())}.")
    return discover()[name]


def tells_kernels(runtime: str) -> bool:
    """Whether a runtime tells how long its kernels take; torch, none of these, does not."""
    return runtime in discover() and discover()[runtime].tells_kernels


def package_of(runtime: str) -> str:
    """The Python package whose version decides what a runtime computes, and how fast.

    Of one that is not known here, of a report from elsewhere say, or torch: its own name.
    """
    known = discover().get(runtime)
    return runtime if known is None else known.package


def runtime_for(path: Path) -> Deployed:
    """What loads a file when nobody says: whose own format it is, else onnxruntime."""
    own = (x.name for x in discover().values() if path.suffix == x.own_format)
    return next(own, "onnxruntime")
