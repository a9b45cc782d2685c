"""What a recipe's networks are made of, and under what licences: as far as anybody said."""

from pathlib import Path

from compress.methods import discover
from compress.methods.base import TEACHER
from compress.models.checkpoint import metadata_of
from compress.models.weight_sources import is_file
from compress.recipe.schema import DataSettings, Recipe, TeacherSettings, chosen
from compress.results.schema import Origin


def origins_of(recipe: Recipe, candidate: str | None = None) -> list[Origin]:
    """Return the images and all weights that a row's network comes from, each once.

    Args:
        candidate: whose network it is; None: the teacher's.
    """
    teacher = weights_of(recipe.teacher)
    found = [images_of(recipe.data), *([teacher] if teacher else [])]
    names, seen = [candidate] if candidate in recipe.candidates else [], set[str]()
    while names:
        name = names.pop()
        seen.add(name)
        for kind, settings in map(chosen, recipe.candidates[name]):
            student = discover()[kind].student(settings)
            if student is not None and student.weights is not None:
                found.append(_weights(student.weights))
            names += {*discover()[kind].teachers(settings)} - seen - {TEACHER}
    return list(dict.fromkeys(found))


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
    said = _weights(given)
    return said.model_copy(
        update={
            "licence": teacher.licence or said.licence,
            "source": teacher.source or said.source,
        }
    )


def _weights(named: str) -> Origin:
    """Return what weights, as a recipe names them, say of themselves."""
    said = metadata_of(Path(named)) if is_file(named) else {}
    return Origin(
        what=f"weights: {Path(named).name if is_file(named) else named}",
        licence=said.get("licence") or said.get("license"),
        source=said.get("source"),
    )
