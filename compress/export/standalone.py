"""The text of functions with all that they need of this package, for a script that runs without it.

A second copy of how a photograph is cut would be another one some day; a script that is made of
the functions' own text does what was judged.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
_LEFT_OUT = str(object())  # in the place of a line; told by its identity


def standalone(roots: Sequence[str]) -> str:
    """Return Python text that defines the roots and what they need; imports of others come first.

    What serves annotations alone is left out, and they are not evaluated: the text can do without
    what types are made with.

    Args:
        roots: functions, classes and imported names, "package.module:name" each.

    Raises:
        ValueError: two things of one name, or an import that cannot be followed.
    """
    collected = _Collected()
    for root in roots:
        module, _, name = root.partition(":")
        collected.add(module, name)
    imports = ["from __future__ import annotations", *collected.imports()]
    return "\n\n\n".join(["\n".join(imports), *collected.texts]) + "\n"


class _Module:
    """A module's text, and which of its statements gives a name its value."""

    def __init__(self, name: str) -> None:
        found = find_spec(name)
        if found is None or found.origin is None:
            raise ValueError(f"there is no module {name}")
        self.text = Path(found.origin).read_text("utf-8")

    @cached_property
    def bound(self) -> dict[str, ast.stmt]:
        """Statements of the top level by name; what is imported for annotations is not there."""
        statements = ast.parse(self.text).body
        return {name: statement for statement in statements for name in _binds(statement)}

    def source(self, statement: ast.stmt) -> str:
        """Return a statement's lines, with its decorators and the comments above and beside it."""
        lines = self.text.splitlines()
        for inner in _own_imports(statement):  # what they bring is defined before
            for number in range(inner.lineno - 1, inner.end_lineno or inner.lineno):
                lines[number] = _LEFT_OUT
        decorators = getattr(statement, "decorator_list", [])
        first = min(x.lineno for x in [statement, *decorators]) - 1
        while first and lines[first - 1].startswith("#"):
            first -= 1
        kept = lines[first : statement.end_lineno]
        return "\n".join(line for line in kept if line is not _LEFT_OUT)


class _Collected:
    """Texts in an order in which they can be run, and what they import from elsewhere."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._module = cache(_Module)
        self._defined: dict[str, ast.stmt] = {}  # by name, by what
        self._begun: set[ast.stmt] = set()
        self._imported: dict[str, str | None] = {}  # by what, from where; None: as it is

    def add(self, module_name: str, name: str) -> None:
        """Take what a module calls by this name, after all that it needs."""
        module = self._module(module_name)
        statement = module.bound.get(name)
        if statement is None:
            raise ValueError(f"{module_name} defines no {name}")
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._import(statement, name)
            return
        if self._defined.setdefault(name, statement) is not statement:
            raise ValueError(f"{name} of {module_name} is also something else: rename one")
        if statement in self._begun:
            return
        self._begun.add(statement)
        for inner in _own_imports(statement):
            for alias in inner.names:
                self._import(inner, _called(alias))
        for needed in _needs(statement):
            if needed in module.bound:
                self.add(module_name, needed)
        self.texts.append(module.source(statement))

    def _import(self, statement: ast.Import | ast.ImportFrom, name: str) -> None:
        alias = next(x for x in statement.names if _called(x) == name)
        source = statement.module if isinstance(statement, ast.ImportFrom) else None
        if (source or alias.name).partition(".")[0] == PACKAGE:
            if source is None or alias.asname is not None:
                raise ValueError(f"{ast.unparse(statement)}: import what it has, by its own name")
            self.add(source, alias.name)
        else:
            self._imported[ast.unparse(alias)] = source

    def imports(self) -> Iterator[str]:
        """Yield lines: Python's own modules, then others."""
        own = sys.stdlib_module_names
        lines = [f"import {name}" for name, source in self._imported.items() if source is None]
        for source in {x for x in self._imported.values() if x is not None}:
            names = sorted(name for name, x in self._imported.items() if x == source)
            lines.append(f"from {source} import {', '.join(names)}")
        for of_python in (True, False):
            yield from sorted(x for x in lines if (_top(x) in own) == of_python)


def _top(line: str) -> str:
    """Return of which package an import line is."""
    return line.split()[1].partition(".")[0]


def _called(alias: ast.alias) -> str:
    """Return what an import makes known."""
    return alias.asname or alias.name.partition(".")[0]


def _binds(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of the top level gives a value."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            parts = (part for target in targets for part in ast.walk(target))
            yield from (part.id for part in parts if isinstance(part, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from map(_called, names)
        case ast.Try(body=body):  # an import that may fail
            yield from (name for inner in body for name in _binds(inner))


def _own_imports(statement: ast.stmt) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield imports of this package within functions and classes."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom) and _top(ast.unparse(node)) == PACKAGE:
            yield node


def _needs(node: ast.AST, own: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names that a statement uses otherwise than in annotations.

    Args:
        own: parameters of the functions that the statement is in, which are no names of a module.
    """
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        own |= {x.arg for x in ast.walk(node.args) if isinstance(x, ast.arg)}
    if isinstance(node, ast.Name) and node.id not in own:
        yield node.id
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _needs(child, own)
