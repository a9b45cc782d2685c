"""Reads (or makes) the data set, leaves out unreadable pictures, draws the split once."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.data.image_cache import drop_unreadable
from compress.data.image_files import SUFFIXES
from compress.data.keypoints import PointColumns, drop_misplaced
from compress.data.layouts import check_classes, read_folder
from compress.data.split import draw_split
from compress.methods.context import BUILT, Context
from compress.models.builders import identity, resolve
from compress.recipe.schema import DataSettings
from compress.utils.errors import UserError
from compress.utils.files import below
from compress.workflow.cache import Stage

VERSION = 1


def plan(
    settings: DataSettings, seed: int, allowed: Sequence[str] = (), *, to_train_on: bool = True
) -> Stage:
    """The data stage; pictures on disk are known by their contents, not by their place.

    Args:
        to_train_on: as of `draw_split`.
    """
    described: dict[str, Any] = settings.model_dump(exclude={"path", "fit", "points", "box"})
    described["seed"] = seed
    if (columns := settings.point_columns) is not None:
        described["points"] = {"names": columns.names, "columns": columns.columns}
    if settings.path is not None:
        described["fingerprint"] = fingerprint(Path(settings.path))
    if settings.builder is not None:
        described["code"] = identity(settings.builder, allowed)
    if not to_train_on:
        described["to_train_on"] = False
    named = [Path(settings.path).name if settings.path else "", settings.builder or ""]
    title = f"data {' by '.join(filter(None, named))}"
    return Stage("data", title, VERSION, described, run=run)


def fingerprint(path: Path) -> str:
    """SHA-256 over names and contents of all pictures and tables at `path`, links followed.

    What may not be read is left out: nothing else reads it either.

    Raises:
        UserError: nothing there.
    """
    folder = path.parent if path.is_file() else path
    if not path.exists():
        raise UserError(f"No data at {path}: give a folder of pictures or a CSV file with --data.")
    digest = hashlib.sha256(os.fsencode(path.name) if path.is_file() else b"")
    for file in below(folder, lambda entry: os.access(entry, os.R_OK)):
        if (file == path or file.suffix.lower() in SUFFIXES | {".csv"}) and file.is_file():
            digest.update(os.fsencode(file.relative_to(folder)) + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    settings = stage.settings
    if settings["builder"] is not None:
        root = folder / BUILT
        root.mkdir(exist_ok=True)
        given = {} if context.data_path is None else {"source": context.data_path}
        try:
            resolve(settings["builder"], context.allowed)(root, **given, **settings["settings"])
        except (TypeError, ValueError) as error:
            raise UserError(f"{settings['builder']} cannot make the data: {error}") from error
        source = root
    else:
        assert context.data_path is not None
        source = context.data_path
    points = PointColumns.of(**settings["points"]) if "points" in settings else None
    data = read_folder(source, settings["picture_column"], settings["label_column"], points)
    if points is None:
        check_classes(data)
    data = drop_unreadable(data, context.progress.advance)
    if points is not None:
        data = drop_misplaced(data, context.progress.note)
    fraction, trained = settings["validation_fraction"], settings.get("to_train_on", True)
    data = draw_split(data, fraction, settings["seed"], to_train_on=trained)
    for note in data.notes:
        context.progress.note(note)
    for skipped in data.skipped:
        context.progress.note(f"skipped unreadable picture {skipped}")
    context.progress.note(data.describe())
    data.save(folder)
