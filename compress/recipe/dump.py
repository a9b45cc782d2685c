"""A recipe as the text of a file that loads as the same recipe."""

import os
from pathlib import Path
from typing import Any

import yaml

from compress.models.weight_sources import is_file
from compress.recipe.schema import Recipe
from compress.utils.settings import RecipeModel


def recipe_text(recipe: Recipe, folder: Path, comment: str) -> str:
    """Return YAML; what is as it is by default is left out.

    Args:
        folder: of the file: paths are relative to it.
        comment: what the file is, on its first line.
    """
    said = _said(recipe)
    said.pop("search", None)
    _relative(said["data"], "path", folder)
    for name in ("weights", "onnx"):
        _relative(said["teacher"], name, folder)
    for chain in said["candidates"].values():
        for step in chain:
            for settings in step.values():
                _relative(settings, "weights", folder)
    first: dict[str, Any] = {"version": 1, "name": said.pop("name")}
    text = yaml.safe_dump(first | said, sort_keys=False, allow_unicode=True)
    return f"# {comment}\n{text}"


def _said(value: Any) -> Any:
    """Return plain data of all that is not as it is by default; a loss keeps its name."""
    if isinstance(value, RecipeModel):
        fields = type(value).model_fields
        return {
            name: _said(each)
            for name, each in value
            if name == "name" or each != fields[name].get_default(call_default_factory=True)
        }
    if isinstance(value, dict):
        return {key: _said(each) for key, each in value.items()}
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value


def _relative(settings: dict[str, Any], name: str, folder: Path) -> None:
    given = settings.get(name)
    if isinstance(given, str) and (name != "weights" or is_file(given)):
        settings[name] = os.path.relpath(given, folder.resolve())
