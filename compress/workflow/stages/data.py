"""Reads (or makes) the dataset, leaves out unreadable images, draws the split once."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from compress.data.image_cache import drop_unreadable
from compress.data.image_files import SUFFIXES, is_data
from compress.data.keypoints import PointColumns
from compress.data.split import draw_split, set_aside
from compress.data.tables import read_csv
from compress.methods.context import BUILT, Context
from compress.models.builders import identity, resolve
from compress.recipe.schema import DataSettings
from compress.tasks import read_for, task_named, usual_task
from compress.tasks.base import Source, Task
from compress.tasks.settings import TaskSettings
from compress.utils.errors import UserError
from compress.utils.files import below
from compress.workflow.cache import Stage

KIND = "data"
VERSION = 1


def plan(
    settings: DataSettings, seed: int, allowed: Sequence[str] = (), *, to_train_on: bool = True
) -> Stage:
    """The data stage; images on disk are known by their contents, not by their place.

    Args:
        to_train_on: as of `draw_split`.
    """
    how = {"path", "fit", "points", "box", "task", "licence", "source"}
    described: dict[str, Any] = settings.in_key(exclude=how)
    described["seed"] = seed
    if (columns := settings.point_columns) is not None:
        described["points"] = {"names": columns.names, "columns": columns.columns}
    if settings.task is not None:
        task, asked = settings.asked
        told = {"name": task.name, "version": task.version, "settings": asked.model_dump()}
        if files := _hashes(task.depends_on(asked), settings):
            told["files"] = files
        described["task"] = told
    if settings.path is not None:
        every = settings.builder is not None  # nobody knows which files it reads
        described["fingerprint"] = fingerprint(Path(settings.path), every)
    if settings.builder is not None:
        described["code"] = identity(settings.builder, allowed)
    if not to_train_on:
        described["to_train_on"] = False
    named = [Path(settings.path).name if settings.path else "", settings.builder or ""]
    title = f"data {' by '.join(filter(None, named))}"
    return Stage(KIND, title, VERSION, described, run=run)


def fingerprint(path: Path, every: bool = False) -> str:
    """SHA-256 over names and contents of all images and tables at `path`, links followed.

    A file of another suffix is an image where a table names it. What may not be read is left out:
    nothing else reads it either.

    Args:
        every: other files count, too, but for hidden ones.

    Raises:
        UserError: nothing there.
    """
    folder = path.parent if path.is_file() else path
    if not path.exists():
        raise UserError(f"No data at {path}: give a folder of images or a CSV file with --data.")
    digest = hashlib.sha256(os.fsencode(path.name) if path.is_file() else b"")
    files = [x for x in below(folder, lambda entry: os.access(entry, os.R_OK)) if x.is_file()]
    named = _names_in(x for x in files if x == path or _may_name_images(x, folder))
    for file in files:
        read = file.suffix.lower() in SUFFIXES | {".csv"} or (every and is_data(file))
        if file == path or read or _last_part(file.name) in named:
            digest.update(os.fsencode(file.relative_to(folder)) + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _may_name_images(file: Path, folder: Path) -> bool:
    """Whether it is a table where tables are looked for: in the folder, or in one for a split."""
    return file.suffix.lower() == ".csv" and folder in (file.parent, file.parent.parent)


def _names_in(tables: Iterable[Path]) -> set[str]:
    """Return what cells of tables may call files, without the folders that these are in."""
    found: set[str] = set()
    for table in tables:
        with suppress(UserError):  # whoever reads it for its images says what is wrong
            found |= {_last_part(cell) for row in read_csv(table).rows for cell in row.values()}
    return found


def _last_part(name: str) -> str:
    """Return the name of a file as it is compared: all spellings that a system takes for one."""
    last = name.strip().replace("\\", "/").rpartition("/")[2]
    return unicodedata.normalize("NFC", last).casefold()


def _hashes(names: Sequence[str], settings: DataSettings) -> dict[str, str]:
    """Return the SHA-256 of files that lie beside the images, or elsewhere; what a builder makes
    is known by its code."""
    root = None if settings.path is None or settings.builder is not None else Path(settings.path)
    if root is not None and root.is_file():
        root = root.parent
    places = {x: Path(x) if root is None else root / x for x in names}
    return {
        name: hashlib.sha256(place.read_bytes()).hexdigest()
        for name, place in places.items()
        if (root is not None or place.is_absolute()) and place.is_file()
    }


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
    task, asked = _task(settings)
    columns = settings["picture_column"], settings["label_column"]
    data = read_for(task, Source(source, *columns), asked, named="task" in settings)
    data = drop_unreadable(data, context.progress.advance)
    data = task.checked(data, context.progress.note)
    fraction, trained = settings["validation_fraction"], settings.get("to_train_on", True)
    data = draw_split(data, fraction, settings["seed"], to_train_on=trained)
    if "tune_fraction" in settings:
        data = set_aside(data, settings["tune_fraction"], settings["seed"])
    for note in data.notes:
        context.progress.note(note)
    for skipped in data.skipped:
        context.progress.note(f"skipped unreadable image {skipped}")
    context.progress.note(data.describe())
    data.save(folder)


def _task(settings: Mapping[str, Any]) -> tuple[type[Task[Any]], TaskSettings]:
    """Return the task that the stage reads data for, and what the recipe says of it."""
    if "task" in settings:
        task = task_named(settings["task"]["name"])
        return task, task.settings.model_validate(settings["task"]["settings"])
    return usual_task(PointColumns.of(**settings["points"]) if "points" in settings else None)
