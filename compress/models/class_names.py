"""A network's outputs are classes in an order: that of its weights' names, or else the data's."""

import ast
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.utils.errors import UserError

# Under which people save the order beside their weights.
BY_INDEX, BY_NAME = "idx_to_class", "class_to_idx"
NOTED_AS = ("classes", "class_names", BY_NAME, BY_INDEX)


@dataclass(frozen=True)
class Unclear:
    """An order that weights name in a way that could be read wrongly; where it counts, refused."""

    why: str


def order_noted(noted: Mapping[str, Any]) -> list[str] | Unclear | None:
    """Return the classes in the order that weights name beside them; None: they name none.

    Understood are lists, text with commas, and dictionaries from names to numbers or back, under
    any of NOTED_AS, also as JSON or as Python prints them. A number is how many there are. What is
    `Unclear` already stays so.
    """
    said: dict[str, list[str] | Unclear] = {}
    for key in NOTED_AS:
        given = _parsed(noted.get(key))
        if given is None or (isinstance(given, int) and not isinstance(given, bool)):
            continue
        if isinstance(given, str | list | tuple | dict) and not given:
            continue
        said[key] = given if isinstance(given, Unclear) else _listed(given, key)
    for key, order in said.items():
        if isinstance(order, Unclear):
            return Unclear(f"{key} of the weights {order.why}")
    orders = [order for order in said.values() if isinstance(order, list)]
    if any(order != orders[0] for order in orders):
        return Unclear(f"{' and '.join(said)} of the weights name different orders")
    return orders[0] if orders else None


def order_in(metadata: Mapping[str, Any]) -> list[str] | Unclear | None:
    """Return the order of classes in a weights file's metadata, as `read_checkpoint` gives them."""
    order: list[str] | Unclear | None = metadata.get("classes")
    return order or (metadata.get("spec") or {}).get("classes") or None


def check_class_names(
    known: list[str] | Unclear | None, classes: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the data's classes in the order of the network's outputs.

    Args:
        known: the names from a weights file; None: it does not say, and the data's order is taken
            for its own.

    Raises:
        UserError: the file names other classes than the data, or nobody can tell in what order.
    """
    if known is None:
        return classes
    if isinstance(known, Unclear):
        raise UserError(
            f"{known.why}: save them as a list of names in the order of the outputs "
            '(classes: ["cat", "dog"]), or leave them out to take the order of the data.'
        )
    # macOS writes the accents of a folder's name as characters of their own.
    spelled = {unicodedata.normalize("NFC", name): name for name in classes}
    known = [unicodedata.normalize("NFC", str(name)) for name in known]
    names = tuple(spelled.get(name, name) for name in known)
    if sorted(names) == sorted(classes):
        return names
    unknown = sorted(set(classes) - set(names))
    missing = sorted(set(names) - set(classes))
    text = []
    if unknown:
        text.append(f"{len(unknown)} only in the data ({', '.join(unknown[:3])})")
    if missing:
        text.append(f"{len(missing)} only in the weights ({', '.join(missing[:3])})")
    raise UserError(
        "The teacher's weights name other classes than the data: "
        f"{'; '.join(text) or 'some of them twice'}. Use the data it was trained on, "
        "or train the last part anew on yours (teacher.train_only: classifier, and teacher.train)."
    )


def _parsed(given: Any) -> Any:
    """Return what text stands for, where it is JSON or what Python prints."""
    if not isinstance(given, str) or given.strip()[:1] not in ("[", "{", "("):
        return given
    for read in (json.loads, ast.literal_eval):
        try:
            return read(given.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return given


def _listed(given: Any, key: str) -> list[str] | Unclear:
    """Return the names in their order, of a value that is not empty."""
    if isinstance(given, str):
        names = [name.strip() for name in re.split(r"[,\n]", given)]
        return names if len(names) > 1 else Unclear("is neither a list of names nor numbers them")
    if isinstance(given, list | tuple):
        return _names(given) or Unclear("is a list of something else than names")
    if not isinstance(given, Mapping):
        return Unclear("is neither a list of names nor numbers them")
    keys, values = list(given), list(given.values())
    by_index, by_name = _placed(keys, values), _placed(values, keys)
    if by_index and by_name and by_index != by_name:  # the names are numbers, too
        if key not in (BY_INDEX, BY_NAME):
            return Unclear("has numbers on both sides, and each could be the place of the other")
        return by_index if key == BY_INDEX else by_name
    return by_index or by_name or Unclear("does not number its names 0, 1, 2 and so on")


def _placed(places: list[Any], names: list[Any]) -> list[str] | None:
    """Return the names at their places; None: these are not 0 to n-1, or those are no names."""
    if not all(
        type(x) is int or (isinstance(x, str) and re.fullmatch("[0-9]+", x)) for x in places
    ):
        return None
    order = {int(place): name for place, name in zip(places, names, strict=True)}
    if sorted(order) != list(range(len(names))):
        return None
    return _names([order[place] for place in range(len(names))])


def _names(given: list[Any] | tuple[Any, ...]) -> list[str] | None:
    if not all(isinstance(name, str | int | float) for name in given):
        return None
    return [str(name) for name in given]
