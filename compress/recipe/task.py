"""What a recipe may say depends on whether its networks predict classes or points."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from compress.methods.distill.settings import Distillation, Points
from compress.recipe.yaml_file import KeyPath
from compress.training.settings import TrainSettings
from compress.utils.settings import RecipeModel

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe

FOR_POINTS = ("points", "points_and_attention")  # losses


def task_faults(recipe: "Recipe") -> Iterator[tuple[KeyPath, str]]:
    """Settings that are for the other task, each with its key path and what to do."""
    columns = recipe.data.point_columns
    used = {"tolerance": recipe.data.points, "iou": recipe.data.box}
    for name in sorted(recipe.measure.model_fields_set & used.keys()):
        if not used[name]:
            what = "a box" if name == "iou" else "points that are no box"
            yield ("measure", name), f"is for {what}, which data does not name: remove it"
    for at, settings in _settings(recipe, ()):
        if isinstance(settings, Distillation) and "loss" in settings.model_fields_set:
            loss = settings.loss.name
            if columns and loss not in FOR_POINTS:
                yield (*at, "loss"), f"{loss} compares classes, the data has points: remove it"
            if not columns and loss in FOR_POINTS:
                yield (*at, "loss"), "is for points; the data has classes: choose kd, dkd or dist"
        if isinstance(settings, TrainSettings) and columns:
            for name in ("mixup", "label_smoothing"):
                if getattr(settings, name) > 0:
                    yield (*at, name), "mixes classes, the data has points: remove it"


def fit_to_task(recipe: "Recipe") -> "Recipe":
    """The recipe with the task's loss wherever it names none."""
    if recipe.data.point_columns is None:
        return recipe
    return recipe.model_copy(update={"candidates": _with_points(recipe.candidates)})


def _settings(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, RecipeModel]]:
    """Every settings object within a value, with its key path."""
    if isinstance(value, RecipeModel):
        yield at, value
        value = {name: getattr(value, name) for name in type(value).model_fields}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        if isinstance(child, RecipeModel | dict | list):
            yield from _settings(child, (*at, key))


def _with_points(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_points(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_points(item) for key, item in value.items()}
    if not isinstance(value, RecipeModel):
        return value
    update = {name: _with_points(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Distillation) and "loss" not in value.model_fields_set:
        update["loss"] = Points()
    return value.model_copy(update=update)
