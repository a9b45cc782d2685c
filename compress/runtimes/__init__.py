"""Artifact -> session: what loads a deployed file and runs it, one file per runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Session(Protocol):
    """A loaded model."""

    picture_size: tuple[int, int]  # height, width
    batch_size: int | None  # None: any

    def run(self, pictures: "np.ndarray") -> "np.ndarray":
        """float32 (n, 3, height, width), normalised, to float32 logits (n, classes)."""


def open_session(path: Path, runtime: str, threads: int, allowed: tuple[str, ...] = ()) -> Session:
    """Loads an artifact's file with an explicit number of threads."""
    if runtime == "torch":
        from compress.runtimes.torch_eager import TorchSession

        return TorchSession(path, threads, allowed)
    from compress.runtimes.onnxruntime import OnnxSession

    return OnnxSession(path, threads)
