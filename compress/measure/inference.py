"""What an artifact answers to picture files, prepared exactly as in deployment."""

from pathlib import Path

import numpy as np

from compress.data.input_spec import InputSpec, preprocess
from compress.models.sessions import infer
from compress.runtimes import Session


def run_on_pictures(
    session: Session, paths: list[Path], spec: InputSpec, batch_size: int = 16
) -> np.ndarray:
    """float32 (n, classes) logits for picture files, prepared exactly as in deployment.

    Raises:
        UserError: a file that is no picture, or a model whose outputs are not the spec's.
    """
    size = session.batch_size or batch_size
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    return np.concatenate([infer(session, preprocess(chunk, spec), spec) for chunk in chunks])
