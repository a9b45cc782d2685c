"""Artifact -> session: what loads a deployed file and runs it, one file per runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

# What a recipe may ask for. openvino-bf16: OpenVINO on the same files, computing in bfloat16.
Deployed = Literal["onnxruntime", "openvino", "openvino-bf16"]
Runtime = Literal[Deployed, "torch"]

# Where a file keeps what it answered when it was judged, see compress/reference_answers.py.
REFERENCE_KEY = "compress.reference"

OPENVINO_MISSING = "The runtime openvino needs OpenVINO: pip install 'compress[openvino]'"


class Session(Protocol):
    """A loaded model."""

    picture_size: tuple[int, int]  # height, width
    batch_size: int | None  # None: any
    spec: str | None  # the InputSpec that the file carries, as JSON
    reference: str | None  # its answers when it was judged, as JSON (compress/reference_answers.py)

    def run(self, pictures: "np.ndarray") -> "np.ndarray":
        """float32 (n, 3, height, width), normalised, to float32 logits (n, classes)."""


def package_of(runtime: str) -> str:
    """The Python package whose version decides what a runtime computes, and how fast."""
    return runtime.removesuffix("-bf16")


def runtime_for(path: Path) -> Deployed:
    """What loads a file when nobody says: OpenVINO for its own format, onnxruntime for ONNX."""
    return "openvino" if path.suffix == ".xml" else "onnxruntime"


def open_session(
    path: Path, runtime: str, threads: int, allowed: tuple[str, ...] = (), alone: bool = True
) -> Session:
    """Loads an artifact's file with an explicit number of threads.

    Besides a recipe's runtimes: "torch-contiguous" and "torch-bf16", which only `compress profile`
    compares.

    Args:
        alone: off where several sessions run one after the other, see `OnnxSession`.
    """
    if runtime.startswith("torch"):
        from compress.runtimes.torch_eager import TorchSession

        return TorchSession(path, threads, allowed, runtime)
    if package_of(runtime) == "openvino":
        from compress.runtimes.openvino import OpenVinoSession

        return OpenVinoSession(path, threads, "bf16" if runtime == "openvino-bf16" else "f32")
    from compress.runtimes.onnxruntime import OnnxSession

    return OnnxSession(path, threads, alone=alone)
