"""YAML as data, with the line of every key: what a recipe's errors point at.

Follows YAML 1.2 where PyYAML (1.1) surprises: `1e-3` is a number, duplicate keys are a fault,
`no`, `on` and dates are words.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.constructor import ConstructorError

from compress.utils.errors import UserError
from compress.utils.files import local

KeyPath = tuple[str | int, ...]
SET = 0  # the "line" of what came from --set
MAX_NODES = 20_000  # aliases of aliases can stand for billions of nodes
NOT_AS_BEFORE = (":float", ":bool", ":timestamp")  # tags of what YAML 1.1 finds in more texts


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and booleans."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return what a node stands for.

        Raises:
            ConstructorError: it is not what its tag says, of which PyYAML tells no line.
        """
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ValueError, LookupError, ArithmeticError, AttributeError) as error:
            what = node.tag.rpartition(":")[2]
            raise ConstructorError(
                problem=f"{str(node.value)[:40]!r} cannot be read as {what}: a text stands in "
                "quotes, with no !! before it",
                problem_mark=node.start_mark,
            ) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(NOT_AS_BEFORE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.nan$"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class Fault(NamedTuple):
    """What is wrong, and where."""

    path: Path
    line: int  # SET: not of the file
    key: str
    what: str


@dataclass
class RecipeFile:
    """Plain data, the line of each key path, and faults found while reading."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    included: dict[str, Path] = field(default_factory=dict)  # sections from files of their own
    unread: set[str] = field(default_factory=set)  # sections whose files could not be read

    def place(self, at: KeyPath) -> tuple[Path, int]:
        """Return file and line of a key path, or of the nearest above it that is there."""
        while at and at not in self.lines:
            at = at[:-1]
        line = self.lines.get(at, 1)
        if not at or line == SET:
            return self.path, line
        return self.included.get(str(at[0]), self.path), line

    def replaced(self, section: str) -> None:
        """Forget the file that a section stood in."""
        self.included.pop(section, None)
        if section in self.unread:
            self.unread.remove(section)
            self.faults = [fault for fault in self.faults if fault.key != section]

    def resolved(self, at: KeyPath, path: str) -> str:
        """Return a path absolute that is relative to the file that names it at a key path.

        Raises:
            UserError: as `local`.
        """
        return str((self.place(at)[0].resolve().parent / local(path)).resolve())


def read_recipe_file(path: Path, example: str = "name: …, data: …") -> RecipeFile:
    """Reads a YAML mapping.

    Args:
        example: of what could stand there.

    Raises:
        UserError: missing, not YAML, not a mapping, or far too large.
    """
    if not path.is_file():
        raise UserError(f"No recipe at {path}.")
    found = RecipeFile(path, {})
    try:
        found.data = _read(path.read_text("utf-8", errors="replace"), found)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}: not valid YAML: {what}") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply, or an alias within itself.") from error
    if not isinstance(found.data, dict):
        raise UserError(f"{path}: expected keys and values ({example}).")
    return found


def _read(text: str, found: RecipeFile) -> Any:
    """Return the data of a text, its lines and faults kept in `found`.

    Raises:
        YAMLError, RecursionError: it has none.
        UserError: it has far too many.
    """
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _walk(node, (), found)
    return loader.construct_document(node)  # type: ignore[no-untyped-call]


def _walk(node: yaml.Node, at: KeyPath, found: RecipeFile) -> None:
    found.lines.setdefault(at, node.start_mark.line + 1)
    if len(found.lines) > MAX_NODES:
        raise UserError(f"The recipe has more than {MAX_NODES} values: aliases of aliases?")
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*at, i), found)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name == "<<":
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    _walk(merged, at, found)
                continue
            if name in seen:
                shown = ".".join(map(str, (*at, name)))
                what = f"is given twice (first on line {seen[name]})"
                found.faults.append(Fault(found.path, line, shown, what))
            seen[name] = line
            found.lines[(*at, name)] = line
            _walk(value, (*at, name), found)


def set_value(file: RecipeFile, assignment: str) -> None:
    """Applies `key.path=value` (`--set`); the value is read as YAML, list items by number.

    Raises:
        UserError: no `=`, no YAML, or a path through something that is not there.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UserError(f"--set {assignment!r}: write key.path=value, e.g. seed=1.")
    try:
        value = _read(text, RecipeFile(file.path, {}))
    except yaml.YAMLError as error:
        raise UserError(f"--set {assignment!r}: the value is not valid YAML.") from error
    except RecursionError as error:
        raise UserError(
            f"--set {path}: the value is nested too deeply, or an alias within itself."
        ) from error
    here: Any = file.data
    keys = path.split(".")
    candidates = here.get("candidates")
    names = list(map(str, candidates)) if isinstance(candidates, dict) else []
    if keys[0] == "candidates" and len(keys) > 2 and names and keys[1] not in names:
        known = ", ".join(names)
        raise UserError(f"--set {assignment!r}: no candidate {keys[1]!r}; there is {known}.")
    at: KeyPath = tuple(int(key) if _is_position(key) else key for key in keys)
    if at[0] in file.unread and len(at) > 1:
        return  # there is nothing to change yet, and that is among the faults
    file.lines = {k: v for k, v in file.lines.items() if k[: len(at)] != at}
    file.lines[at] = SET
    if len(at) == 1:
        file.replaced(path)
    for key in keys[:-1]:
        here = _enter(here, key, assignment)
    if isinstance(here, dict):
        here[keys[-1]] = value
    elif isinstance(here, list) and _is_position(keys[-1]) and int(keys[-1]) < len(here):
        here[int(keys[-1])] = value
    else:
        raise UserError(f"--set {assignment!r}: {keys[-1]!r} is not there.")


def _is_position(key: str) -> bool:
    """Whether a key may be that of a list's item: other digits than these are no numbers."""
    return re.fullmatch("[0-9]{1,9}", key) is not None


def _enter(here: Any, key: str, assignment: str) -> Any:
    if isinstance(here, dict):
        # A copy: with YAML anchors two places may share one object, and only one was named.
        child = here.setdefault(key, {})
        here[key] = child.copy() if isinstance(child, dict | list) else child
        return here[key]
    if isinstance(here, list) and _is_position(key) and int(key) < len(here):
        child = here[int(key)]
        here[int(key)] = child.copy() if isinstance(child, dict | list) else child
        return here[int(key)]
    raise UserError(f"--set {assignment!r}: {key!r} is not there.")
