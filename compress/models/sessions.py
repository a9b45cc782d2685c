"""Artifact -> session: what loads a deployed file in any of the runtimes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from compress.data.input_spec import InputSpec
from compress.runtimes import AnyFile, Session, package_of
from compress.runtimes.outputs import by_name
from compress.utils.errors import UserError

Size = tuple[int, int]  # height and width of images
# Path, threads, allowed packages of builders, whether it runs alone, the size of a file that
# leaves its own free.
Loader = Callable[[Path, int, tuple[str, ...], bool, Size | None], Session]


def loader_of(runtime: str) -> Loader:
    """Import what loads files in a runtime and return it.

    Importing takes longer than loading a small file, and is no property of the file.
    """
    if runtime.startswith("torch"):
        from compress.models.torch_session import TorchSession

        return lambda path, threads, allowed, *_: TorchSession(path, threads, allowed, runtime)
    if package_of(runtime) == "openvino":
        from compress.runtimes.openvino import OpenVinoSession

        in_bfloat16 = runtime == "openvino-bf16"
        return lambda path, threads, _, __, size: OpenVinoSession(
            path, threads, "bf16" if in_bfloat16 else "f32", size=size
        )
    from compress.runtimes.onnxruntime import OnnxSession

    return lambda path, threads, _, alone, size: OnnxSession(path, threads, alone=alone, size=size)


def open_session(
    path: Path,
    runtime: str,
    threads: int,
    allowed: tuple[str, ...] = (),
    alone: bool = True,
    size: Size | None = None,
) -> Session:
    """Loads an artifact's file with an explicit number of threads.

    Besides a recipe's runtimes: "torch-contiguous" and "torch-bf16", which only `compress profile`
    compares.

    Args:
        alone: off where several sessions run one after the other, see `OnnxSession`.
        size: height and width of the images, for a file that leaves them free.
    """
    return loader_of(runtime)(path, threads, allowed, alone, size)


def open_file(path: Path, runtime: str, threads: int, allowed: tuple[str, ...] = ()) -> AnyFile:
    """Load a file whatever inputs it has; else as `open_session` does."""
    if runtime.startswith("torch"):
        from compress.models.torch_session import TorchSession

        return TorchSession(path, threads, allowed, runtime)
    if package_of(runtime) == "openvino":
        from compress.runtimes.openvino import OpenVinoFile

        return OpenVinoFile(path, threads, "bf16" if runtime == "openvino-bf16" else "f32")
    from compress.runtimes.onnxruntime import OnnxFile

    return OnnxFile(path, threads)


def infer(session: Session, images: np.ndarray, spec: InputSpec) -> dict[str, np.ndarray]:
    """Return the outputs by the spec's names for them, float32 (n, …).

    A file with a fixed batch gets its images repeated up to that number.

    Args:
        images: float32 (n, channels, height, width), prepared.

    Raises:
        UserError: other outputs than the spec says.
    """
    count = len(images)
    if session.batch_size:
        images = np.resize(images, (session.batch_size, *images.shape[1:]))
    given = by_name(session.run(images), spec.outputs)
    for name, shape in spec.outputs.items():
        given[name] = given[name][:count]
        if given[name].shape != (count, *shape):
            raise UserError(
                f"The model gives an output of shape {given[name].shape} for {count} images, but "
                f"its input spec names {spec.named}."
            )
    return given
