"""What a recipe may say depends on the task that its networks are for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from compress.methods.distill.settings import Distillation
from compress.recipe.yaml_file import KeyPath
from compress.tasks.settings import LossSettings
from compress.training.settings import TrainSettings
from compress.utils.settings import RecipeModel

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe

TOLERANCES = {"tolerance": "points that are no box", "iou": "a box"}


def task_faults(recipe: "Recipe") -> Iterator[tuple[KeyPath, str]]:
    """Yield settings that are for another task, each with its key path and what to do."""
    task, asked = recipe.data.asked
    used = task.tolerances(asked)
    for name in sorted(recipe.measure.model_fields_set & TOLERANCES.keys()):
        if name not in used:
            what = f"is for {TOLERANCES[name]}, which data does not name"
            yield ("measure", name), f"{what}: remove it"
    losses = ", ".join(get_args(loss.model_fields["name"].annotation)[0] for loss in task.losses)
    for at, settings in _settings(recipe, ()):
        if isinstance(settings, Distillation) and "loss" in settings.model_fields_set:
            name, fits = settings.loss.name, isinstance(settings.loss, task.losses)
            if not fits:
                yield (*at, "loss"), f"{name} is not for {task.name}: remove it, or choose {losses}"
        if isinstance(settings, TrainSettings):
            for name in ("mixup", "label_smoothing"):
                if getattr(settings, name) > 0 and name not in task.trains_with:
                    yield (*at, name), f"mixes classes, and {task.name} has none: remove it"


def fit_to_task(recipe: "Recipe") -> "Recipe":
    """Return the recipe with the task's usual loss wherever it names none."""
    usual = recipe.data.asked[0].usual_loss()
    if usual == Distillation.model_fields["loss"].default:
        return recipe
    return recipe.model_copy(update={"candidates": _with_loss(recipe.candidates, usual)})


def _settings(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, RecipeModel]]:
    """Every settings object within a value, with its key path."""
    if isinstance(value, RecipeModel):
        yield at, value
        value = {name: getattr(value, name) for name in type(value).model_fields}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        if isinstance(child, RecipeModel | dict | list):
            yield from _settings(child, (*at, key))


def _with_loss(value: Any, usual: LossSettings) -> Any:
    """Return a value with this loss in all settings within that name none."""
    if isinstance(value, list):
        return [_with_loss(item, usual) for item in value]
    if isinstance(value, dict):
        return {key: _with_loss(item, usual) for key, item in value.items()}
    if not isinstance(value, RecipeModel):
        return value
    fields = type(value).model_fields
    update = {name: _with_loss(getattr(value, name), usual) for name in fields}
    if isinstance(value, Distillation) and "loss" not in value.model_fields_set:
        update["loss"] = usual
    return value.model_copy(update=update)
