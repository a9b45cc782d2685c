"""Lists of values in a candidate's settings: each point of the grid becomes a candidate.

Works on a recipe's plain data, before it is validated: what a value may be is asked of the schema,
and faults found later are pointed back at what the recipe's author wrote.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

from compress.recipe.yaml_file import KeyPath

MAX_CANDIDATES = 100
STEP_SETTINGS = 4  # the length of candidates.NAME.0.distill: grids begin there

SchemaAt = Callable[[KeyPath], list[dict[str, Any]]]  # the alternatives at a key path


@dataclass(frozen=True)
class Point:
    """One choice of values: by key path, the position in the list and how a name shows it."""

    value: Any
    picks: dict[KeyPath, tuple[int, str]] = field(default_factory=dict)


@dataclass
class Grid:
    """A recipe's data with a candidate for each point, and where each candidate comes from."""

    data: dict[str, Any]
    origins: dict[Any, tuple[KeyPath, Point]] = field(default_factory=dict)  # by candidate
    faults: list[tuple[KeyPath, str]] = field(default_factory=list)

    def written(self, at: KeyPath) -> tuple[KeyPath, KeyPath]:
        """The key path in the data that was expanded for one in `data`, and that of the value
        there: they differ where the value is one of a list."""
        if at[:1] != ("candidates",) or at[1:2] == () or at[1] not in self.origins:
            return at, at
        key, point = self.origins[at[1]]
        value = key
        for i in range(2, len(at)):
            key = (*value, at[i])
            pick = point.picks.get(at[2 : i + 1])
            value = key if pick is None else (*key, pick[0])
        return key, value

    def place(self, candidate: Any) -> tuple[Any, dict[str, int]]:
        """Return the candidate as it was written, and the position in each of its lists."""
        (_, family), point = self.origins[candidate]
        return family, {".".join(map(str, at)): i for at, (i, _) in point.picks.items()}


def expand(data: dict[str, Any], schema_at: SchemaAt) -> Grid:
    """Makes a candidate for each point, in order, the last list varying fastest.

    Candidates without lists of values, and whatever is not understood, stay as they are. With more
    than `MAX_CANDIDATES` some are left out, which is a fault.
    """
    candidates = data.get("candidates")
    if not isinstance(candidates, dict):
        return Grid(data)
    expanded: dict[Any, Any] = {}
    grid = Grid(data | {"candidates": expanded})
    count = 0
    for name, steps in candidates.items():
        # A name that is no text stays as it is, to be refused.
        text = isinstance(name, str)
        points = _points(steps, ("candidates", name), schema_at) if text else [Point(steps)]
        count += len(points)
        for point, suffix in zip(points, _suffixes(points), strict=True):
            full = name + suffix if suffix else name
            if full in expanded:
                what = f"two candidates would be named {full!r}: change a name or a value"
                grid.faults.append((("candidates", name), what))
            expanded[full] = point.value
            grid.origins[full] = ("candidates", name), point
    if count > max(MAX_CANDIDATES, len(candidates)):
        what = f"the lists of values make more than {MAX_CANDIDATES} candidates"
        grid.faults.append((("candidates",), what))
    return grid


def is_grid(value: Any, at: KeyPath, schema_at: SchemaAt) -> bool:
    """Whether a value is a list of those that the schema takes at a key path.

    Where it takes a list, that is a list of lists, unless it takes a list of lists too.
    """
    named = len(at) >= STEP_SETTINGS and isinstance(at[-1], str)
    if not (named and at[0] == "candidates" and isinstance(value, list)):
        return False
    schemas = schema_at(at)
    if not any(map(_admits_list, schemas)):
        return bool(schemas)
    items = schema_at((*at, 0))
    return (
        bool(items and value)
        and not any(map(_admits_list, items))
        and all(isinstance(item, list) for item in value)
    )


def _admits_list(schema: dict[str, Any]) -> bool:
    # Without a type, anything goes.
    return schema.get("type") == "array" or not schema.keys() & {"type", "enum", "const"}


def _points(value: Any, at: KeyPath, schema_at: SchemaAt) -> list[Point]:
    """The points of a value; of more than `MAX_CANDIDATES` just enough to see that."""
    # An empty list has no points: left there, it is refused where it is validated.
    if value == [] or not is_grid(value, at, schema_at):
        return _inner_points(value, at, schema_at)
    found = (
        Point(point.value, {at[2:]: (i, _label(item, i)), **point.picks})
        for i, item in enumerate(value)
        for point in _inner_points(item, at, schema_at)
    )
    return _enough(found)


def _inner_points(value: Any, at: KeyPath, schema_at: SchemaAt) -> list[Point]:
    """The product of the grids within a mapping or a list."""
    if not isinstance(value, dict | list):
        return [Point(value)]
    keys = list(value) if isinstance(value, dict) else range(len(value))
    choices = [_points(value[key], (*at, key), schema_at) for key in keys]

    def combined(points: tuple[Point, ...]) -> Point:
        values = [point.value for point in points]
        picks = {at: pick for point in points for at, pick in point.picks.items()}
        is_mapping = isinstance(value, dict)
        return Point(dict(zip(keys, values, strict=True)) if is_mapping else values, picks)

    return _enough(map(combined, product(*choices)))


def _enough(points: Iterable[Point]) -> list[Point]:
    return list(islice(points, MAX_CANDIDATES + 1))


def _label(value: Any, position: int) -> str:
    """How a name shows a value: a mapping by its `name`, what has none by its position from 1."""
    shown = value.get("name") if isinstance(value, dict) else value
    if isinstance(shown, dict | list) or (shown is None and value is not None):
        return str(position + 1)
    text = str(shown).lower() if shown is None or isinstance(shown, bool) else str(shown)
    return _slug(text)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)


def _suffixes(points: list[Point]) -> list[str]:
    """What each point's name ends with, e.g. `-speedup-2-lr-0.001`; nothing without a grid."""
    varying = list(dict.fromkeys(at for point in points for at in point.picks))
    keys = {at: _slug(".".join(map(str, _tail(at, varying)))) for at in varying}
    return [
        "".join(f"-{keys[at]}-{label}" for at, (_, label) in point.picks.items())
        for point in points
    ]


def _tail(at: KeyPath, others: list[KeyPath]) -> KeyPath:
    """As much of the end of a key path as tells it from the others."""
    lengths = range(1, len(at) + 1)
    alike = (sum(other[-n:] == at[-n:] for other in others) for n in lengths)
    return next(at[-n:] for n, same in zip(lengths, alike, strict=True) if same == 1)
