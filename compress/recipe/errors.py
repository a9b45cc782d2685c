"""What is wrong with a recipe, told all at once: line, key path and a sentence for each fault."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from compress.models.builders import split_name
from compress.recipe.beginning import Spliced
from compress.recipe.grid import Grid, is_grid
from compress.recipe.schema_paths import given_path, known_keys, schema_at
from compress.recipe.sections import EXAMPLES
from compress.recipe.yaml_file import SET, Fault, KeyPath, RecipeFile
from compress.utils.errors import UserError
from compress.utils.settings import RecipeModel

Model = TypeVar("Model", bound=RecipeModel)


class Faults(Generic[Model]):
    """Those of one file, which holds a `model`; key paths are the author's, not the grid's."""

    def __init__(self, file: RecipeFile, model: type[Model], spliced: Spliced, grid: Grid) -> None:
        self.file, self.model, self.spliced, self.grid = file, model, spliced, grid
        self.found = list(file.faults)
        for at, what in (*spliced.faults, *grid.faults):
            self._tell(at, at, what)

    def add(self, at: KeyPath, what: str) -> None:
        """A fault at a key path of the grid's data."""
        key, where = self._written(given_path(self.model, self.grid.data, at))
        self._tell(key, where, what)

    def _written(self, at: KeyPath) -> tuple[KeyPath, KeyPath]:
        """The author's key path for one of the grid's data, and that of the value there."""
        key, where = self.grid.written(at)
        return self.spliced.written(key), self.spliced.written(where)

    def validated(self) -> Model | None:
        """The grid's data as a model; None where they are none, and why is among the faults."""
        try:
            return self.model.model_validate(self.grid.data)
        except ValidationError as error:
            for detail in error.errors():
                self._add_detail(detail)
            return None

    def refuse_builders(
        self, named: Iterable[tuple[KeyPath, str]] | None, allowed: Sequence[str]
    ) -> None:
        """Adds those that are no builder's name, or of no package that is allowed.

        Args:
            named: by key path; None where there is no model to ask, so that whatever looks like
                one in the plain data is looked at.
        """
        for at, name in _plain_builders(self.grid.data, ()) if named is None else named:
            try:
                split_name(name, allowed)
            except UserError as error:
                self.add(at, str(error))

    def faultless(self, recipe: Model | None) -> Model:
        """What `validated` gave, if nothing is wrong with it.

        Raises:
            UserError: everything that is wrong, one line each with line and key path.
        """
        if recipe is not None and not self.found:
            return recipe
        # A union reports a fault once for each of its members, a grid for each of its points.
        own = self.file.path
        unique = sorted(set(self.found), key=lambda x: (x.line != SET, x.path != own, x))
        lines = [
            f"  {f'{path}:{line}' if line != SET else '--set'}: {where}: {what}"
            for path, line, where, what in unique
        ]
        title = f"{own} has {len(unique)} fault{'s' if len(unique) > 1 else ''}:"
        raise UserError("\n".join([title, *lines]))

    def _add_detail(self, detail: Any) -> None:
        """One of pydantic's error records."""
        location: KeyPath = tuple(detail["loc"])
        of_chain = self.grid.written(location)[0] in self.spliced.headless
        if of_chain or self.file.unread.intersection(location[:1]):
            return  # what stands before it, or in it, is not known
        at = given_path(self.model, self.grid.data, location)
        key, where = self._written(at)
        if detail["type"] == "extra_forbidden":
            where = key
        self._tell(key, where, _sentence(self.model, at, detail))

    def _tell(self, key: KeyPath, where: KeyPath, what: str) -> None:
        shown = ".".join(map(str, key)) or "recipe"
        self.found.append(Fault(*self.file.place(where), shown, what))


def _sentence(model: type[BaseModel], at: KeyPath, detail: Any) -> str:
    """What one of pydantic's error records says, in plain words."""
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        # What is known there may be another loss's.
        known = [name for name, now in known_keys(model, at[:-1]).items() if now is None]
        near = get_close_matches(str(at[-1]), [name for name in known if name != at[-1]], 1, 0.5)
        return "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if value == [] and is_grid(value, at, partial(schema_at, model)):
        return "an empty list: give at least one value"
    if kind in ("float_type", "int_type") and isinstance(value, str) and _is_number(value):
        return f"{value!r} is text: write the number without quotes"
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch":
        slash = " and, between names, /" if "/" in detail["ctx"]["pattern"] else ""
        return f"{value!r}: use letters, digits, _ . -{slash}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        or_file = ", or the path of a YAML file" if len(at) == 1 and at[0] in EXAMPLES else ""
        return f"expected keys and values{or_file}, not {value!r}"
    if kind == "list_type":
        return "expected a list: put '- ' before each item"
    what = str(detail["msg"]).removeprefix("Value error, ")
    what = what[0].lower() + what[1:]
    named = kind.endswith(("_type", "_error")) and kind != "value_error"
    if named or kind.startswith(("greater_than", "less_than", "literal")):
        what += f", not {value!r}"
    return what


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain_builders(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        if isinstance(child, dict | list):
            yield from _plain_builders(child, (*at, key))
        elif key in ("builder", "student") and isinstance(child, str):
            yield (*at, key), child
