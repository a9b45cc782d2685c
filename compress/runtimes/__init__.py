"""Artifact -> session: what loads a deployed file and runs it, one file per runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from compress.results.schema import Deployed

if TYPE_CHECKING:
    import numpy as np


# Where a file keeps what it answered when it was judged, see compress/export/reference_answers.py.
REFERENCE_KEY = "compress.reference"

# What images can be fed as.
FLOATS = ("float32", "float16", "float64")

OPENVINO_MISSING = "The runtime openvino needs OpenVINO: pip install 'compress[openvino]'"


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


def package_of(runtime: str) -> str:
    """The Python package whose version decides what a runtime computes, and how fast."""
    return runtime.removesuffix("-bf16")


def runtime_for(path: Path) -> Deployed:
    """What loads a file when nobody says: OpenVINO for its own format, onnxruntime for ONNX."""
    return "openvino" if path.suffix == ".xml" else "onnxruntime"
