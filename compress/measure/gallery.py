"""A gallery: images by what lies near them in one model's space, kept in a file of its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.image_cache import drop_unreadable
from compress.data.input_spec import InputSpec
from compress.data.layouts import read_folder
from compress.export.artifact import sha256_of, spec_of
from compress.measure.inference import run_on_images
from compress.measure.machine import usable_threads
from compress.models.sessions import open_session
from compress.runtimes import runtime_for
from compress.runtimes.outputs import Outputs
from compress.tasks import task_of
from compress.utils.errors import UserError
from compress.utils.files import write_text


def make_gallery(
    model: Path, folder: Path, threads: int | None = None, spec_file: Path | None = None
) -> Any:
    """Return the gallery of a folder's labelled images, as the model's task makes it (JSON).

    Raises:
        UserError: a task that knows no galleries; no labelled image; anything wrong with the files.
    """
    spec = spec_of(model, spec_file)
    data = drop_unreadable(read_folder(folder), lambda done, total: None)
    size = (spec.height, spec.width)
    session = open_session(model, runtime_for(model), threads or usable_threads(), size=size)

    def ask(indices: np.ndarray) -> Outputs:
        return run_on_images(session, data.paths(indices), spec)

    labelled = np.flatnonzero([image.is_labelled for image in data.images])
    return task_of(spec).gallery(ask, data, labelled)


def write_gallery(out: Path, model: Path, gallery: Any) -> None:
    """Write a gallery with the fingerprint of its model."""
    write_text(out, json.dumps({"model": sha256_of(model), "gallery": gallery}, ensure_ascii=False))


def read_gallery(path: Path, model: Path) -> Any:
    """Return the gallery of a file.

    Raises:
        UserError: none that `compress gallery` wrote, or one of another model.
    """
    try:
        stored = json.loads(path.read_text("utf-8"))
        fingerprint, gallery = stored["model"], stored["gallery"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no gallery: write one with compress gallery {model} FOLDER, or give the "
            "folder itself."
        ) from error
    if fingerprint != sha256_of(model):
        raise UserError(
            f"{path} was made by another model, whose space is another: make it anew with "
            f"compress gallery {model} FOLDER --out {path}."
        )
    return gallery


def with_gallery(spec: InputSpec, gallery: Any) -> InputSpec:
    """Return the spec of a model that finds the gallery's images instead of its own."""
    assert spec.predicted is not None
    predicted = spec.predicted.model_copy(update={"fitted": gallery})
    return spec.model_copy(update={"predicted": predicted})
