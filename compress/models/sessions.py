"""Artifact -> session: what loads a deployed file in any of the runtimes."""

from pathlib import Path

import numpy as np

from compress.data.input_spec import InputSpec
from compress.models.output_shapes import why_other
from compress.runtimes import AnyFile, Session, runtime_named
from compress.runtimes.base import Loader, Size
from compress.runtimes.outputs import by_name
from compress.utils.errors import UserError


def loader_of(runtime: str, allowed: tuple[str, ...] = ()) -> Loader:
    """Import what loads files in a runtime and return it, as `Runtime.loader`.

    Args:
        allowed: packages of builders, for torch.
    """
    if runtime.startswith("torch"):
        from compress.models.torch_session import TorchSession

        return lambda path, threads, *_: TorchSession(path, threads, allowed, runtime)
    return runtime_named(runtime).loader()


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

    Raises:
        UserError: nothing that the runtime loads, or a file in training mode.
    """
    session = loader_of(runtime, allowed)(path, threads, alone, size)
    if session.spec is None:  # else it is ours, which never is in training mode
        from compress.models.onnx_faults import refuse_training

        refuse_training(path)
    return session


def open_file(path: Path, runtime: str, threads: int, allowed: tuple[str, ...] = ()) -> AnyFile:
    """Load a file whatever inputs it has; else as `open_session` does."""
    if runtime.startswith("torch"):
        from compress.models.torch_session import TorchSession

        return TorchSession(path, threads, allowed, runtime)
    return runtime_named(runtime).open(path, threads)


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
        answer = given[name]
        given[name] = np.atleast_1d(answer)[:count]
        if given[name].shape != (count, *shape):
            why = why_other(answer, len(images), shape, spec)
            raise UserError(
                f"The model gives an output of shape {given[name].shape} for {count} images, but "
                f"its input spec names {spec.named}{'' if why is None else f': {why}'}."
            )
    return given
