"""Tasks: what is predicted of an image, and when it is right; a folder each, or installed ones."""

import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.data.keypoints import PointColumns
from compress.tasks.base import Source, Task
from compress.tasks.classification.task import Classification
from compress.tasks.keypoints.settings import Columns
from compress.tasks.keypoints.task import Keypoints
from compress.tasks.settings import TaskSettings
from compress.utils.errors import UserError

GROUP = "compress.tasks"  # of entry points: further tasks, each a subclass of Task


@cache
def discover() -> dict[str, type[Task[Any]]]:
    """Return all tasks by name, classification first: it is what a recipe means that says nothing.

    The order is that of the losses which a recipe may name.
    """
    for folder in pkgutil.iter_modules(__path__):
        if folder.ispkg:
            importlib.import_module(f"{__name__}.{folder.name}.task")
    own = [cls for cls in Task.__subclasses__() if cls.__module__.startswith(f"{__name__}.")]
    installed = [entry.load() for entry in entry_points(group=GROUP)]
    first = sorted({*own, *installed}, key=lambda cls: (cls is not Classification, cls.name))
    return {cls.name: cls for cls in first}


def task_named(name: str) -> type[Task[Any]]:
    """Return a task by its name.

    Raises:
        UserError: none of that name is installed here.
    """
    if name not in discover():
        raise UserError(
            f"No task {name!r} is installed here, only {', '.join(discover())}: install the "
            "package that brings it."
        )
    return discover()[name]


def usual_task(columns: PointColumns | None) -> tuple[type[Task[Any]], TaskSettings]:
    """Return the task that data is read for where a recipe names none, and its settings.

    Args:
        columns: of points; None where none are named.
    """
    if columns is None:
        return Classification, TaskSettings()
    return Keypoints, Columns(names=list(columns.names), columns=list(columns.columns))


def read_for(
    task: type[Task[Any]], source: Source, settings: TaskSettings, *, named: bool
) -> Dataset:
    """Return a run's images as the task reads them.

    Args:
        named: whether the recipe names the task; the dataset then says so, too.
    """
    data = task.read(source, settings)
    if not named:
        return data
    return replace(data, task=task.name, task_settings=settings.model_dump())


def task_of(spec: InputSpec) -> Task[Any]:
    """Return the task of the network that a spec belongs to."""
    if spec.predicted is not None:
        return task_named(spec.predicted.task)(spec)
    return (Keypoints if spec.points else Classification)(spec)


def task_of_data(data: Dataset) -> type[Task[Any]]:
    """Return the task that a dataset was read for."""
    return task_named(data.task_name)
