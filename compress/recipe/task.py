"""What a recipe may say depends on the task that its networks are for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from compress.methods.distill.settings import Distillation, Learning, Unlabelled
from compress.recipe.yaml_file import KeyPath
from compress.tasks.settings import LossSettings
from compress.training.settings import TrainSettings
from compress.utils.settings import RecipeModel, sides

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
            for name in ("mixup", "cutmix", "label_smoothing"):
                if getattr(settings, name) > 0 and name not in task.trains_with:
                    yield (*at, name), f"mixes classes, and {task.name} has none: remove it"
            mirror = settings.augmentation.mirror
            if mirror != "never" and not {"mirror", f"mirror: {mirror}"} & {*task.trains_with}:
                what = f"what {task.name} answers for a mirrored image is not known: remove it"
                if "mirror: same" in task.trains_with:
                    what = f"{mirror} is for images that each have one class: choose same"
                yield (*at, "augmentation", "mirror"), what
            if task.has_places and settings.augmentation.policy != "none":
                what = f"moves an image without what {task.name} tells of it: remove it"
                yield (*at, "augmentation", "policy"), what
        if isinstance(settings, Learning) and settings.margin and "margin" not in task.trains_with:
            yield (*at, "margin"), f"is between classes, and {task.name} has none: remove it"
        if isinstance(settings, Distillation) and len(settings.teachers) > 1 and not task.averaged:
            yield (*at, "teacher"), f"the mean of several answers to {task.name} is none: name one"
        labels_alone = isinstance(settings, Learning) and settings.learn_from == "labels"
        if isinstance(settings, Distillation) and not labels_alone:
            if settings.train.augmentation.mirror == "new_class":
                yield (
                    (*at, "train", "augmentation", "mirror"),
                    "new_class has twice the classes, and the teacher knows them once: use it with "
                    "learn_from: labels, or mirror: same",
                )
            if settings.loss.attention and recipe.teacher.onnx is not None:
                yield (
                    (*at, "loss"),
                    f"{settings.loss.name} compares maps within the networks, and an ONNX file "
                    "shows none: choose another loss, or give the teacher's builder and weights",
                )
            if isinstance(settings.unlabelled, Unlabelled) and task.logits is None:
                yield (*at, "unlabelled"), f"a share is for classes, and {task.name} has none"
            if task.has_places or settings.loss.attention:
                yield from _other_shapes(settings, at, sides(recipe.teacher.image_size))


def _other_shapes(
    settings: Distillation, at: KeyPath, teachers: tuple[int, int]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield image sizes of other proportions than the teacher's, whose places are learned."""
    height, width = teachers
    given = {(*at, "train", "image_size"): settings.train.image_size}
    if isinstance(settings, Learning):
        given[(*at, "image_size")] = settings.image_size
    for i, phase in enumerate(settings.train.progressive):
        given[(*at, "train", "progressive", i, "image_size")] = phase.image_size
    for where, size in given.items():
        if size is None:
            continue
        own_height, own_width = sides(size)
        if abs(own_height * width / height - own_width) >= 1:  # to the pixel that rounding takes
            yield (
                where,
                f"{own_height} x {own_width} has other proportions than the teacher's {height} x "
                f"{width}: places that it finds are fractions of its sides, so give a size of the "
                "same proportions",
            )


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
