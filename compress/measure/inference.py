"""What an artifact answers to image files, prepared exactly as in deployment."""

from pathlib import Path

import numpy as np

from compress.data.image_cache import Decoded
from compress.data.input_spec import InputSpec, normalise, preprocess
from compress.models.sessions import infer
from compress.runtimes import Session
from compress.runtimes.outputs import joined


def run_on_images(
    session: Session, paths: list[Path], spec: InputSpec, batch_size: int = 16
) -> dict[str, np.ndarray]:
    """Return the outputs for image files, float32 (n, …), prepared exactly as in deployment.

    Raises:
        UserError: a file that is no image, or a model whose outputs are not the spec's.
    """
    size = session.batch_size or batch_size
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    return joined([infer(session, preprocess(chunk, spec), spec) for chunk in chunks])


def run_on_decoded(
    session: Session,
    pixels: Decoded,
    indices: np.ndarray,
    spec: InputSpec,
    batch_size: int = 16,
) -> dict[str, np.ndarray]:
    """Return the same for images of a run's data, each of which is decoded once in a run.

    Args:
        indices: places of the images in the dataset.
    """
    chunks = pixels.batches(indices, spec, session.batch_size or batch_size)
    return joined([infer(session, normalise(chunk, spec), spec) for chunk in chunks])
