"""What a recipe's networks are made of, and under what licences: as far as anybody said."""

from pathlib import Path

from compress.models.checkpoint import metadata_of
from compress.recipe.schema import DataSettings, Recipe, TeacherSettings
from compress.results.schema import Origin


def origins_of(recipe: Recipe) -> list[Origin]:
    """Return the images and, where there are some, the weights that the teacher starts from."""
    weights = weights_of(recipe.teacher)
    return [images_of(recipe.data), *([weights] if weights else [])]


def images_of(data: DataSettings) -> Origin:
    """Return what a recipe says of its images."""
    named = [Path(data.path).name if data.path else "", data.builder or ""]
    what = f"images: {' by '.join(filter(None, named))}"
    return Origin(what=what, licence=data.licence, source=data.source)


def weights_of(teacher: TeacherSettings) -> Origin | None:
    """Return what the recipe says of the teacher's weights, or else their own metadata."""
    given = teacher.onnx or teacher.weights
    if given is None:
        return None
    of_torchvision = given.startswith("torchvision:")
    said = {} if of_torchvision else metadata_of(Path(given))
    return Origin(
        what=f"weights: {given if of_torchvision else Path(given).name}",
        licence=teacher.licence or said.get("licence") or said.get("license"),
        source=teacher.source or said.get("source"),
    )
