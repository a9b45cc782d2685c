"""Settings that a recipe gives by their old names: taken for one version, with a note each."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import BaseModel

from compress.recipe.grid import is_grid
from compress.recipe.schema_paths import known_keys, schema_at
from compress.recipe.yaml_file import SET, KeyPath, RecipeFile


def note_old_names(file: RecipeFile, model: type[BaseModel]) -> None:
    """Print a line on stderr for each, with file, line and key path."""
    for at, now in _old_names(model, file.data, (), ()):
        path, line = file.place(at)
        where = "--set" if line == SET else f"{path}:{line}"
        shown = ".".join(map(str, at))
        print(f"{where}: {shown} is an old name: write {now}", file=sys.stderr)


def _old_names(
    model: type[BaseModel], value: Any, at: KeyPath, allowed_at: KeyPath
) -> Iterator[tuple[KeyPath, str]]:
    """Old names within a value, and those now.

    Args:
        at: where the value stands.
        allowed_at: where the schema tells of it; another path within a list of values.
    """
    if isinstance(value, dict):
        known = known_keys(model, allowed_at)
        for key, child in value.items():
            if now := known.get(key):
                yield (*at, key), now
            yield from _old_names(model, child, (*at, key), (*allowed_at, key))
    elif isinstance(value, list):
        several = is_grid(value, allowed_at, partial(schema_at, model))
        for i, item in enumerate(value):
            inner = allowed_at if several else (*allowed_at, i)
            yield from _old_names(model, item, (*at, i), inner)
