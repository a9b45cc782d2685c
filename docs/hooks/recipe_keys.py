"""Writes the page of every key of a recipe: types, bounds and defaults from the schema that checks
recipes, meanings from the comments beside the settings. Needs no mkdocs.
"""

import ast
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from compress.cascade.recipe import CascadeRecipe
from compress.methods import discover
from compress.recipe.schema import Recipe
from compress.tasks.settings import LossSettings
from compress.utils.settings import RecipeModel

HEAD = """# Every key of a recipe

This page is made from the schema that checks recipes: `compress schema` prints the same for
editors. A key without a default must be given. Within a step, a list where one value is expected is
a grid, and makes a candidate of each value.
"""
KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}
SETTINGS = "{}"
Sections = dict[type[BaseModel], str]  # settings, and the title of the section that lists them


def page() -> str:
    """Return the page in Markdown."""
    sections = _sections()
    return "\n".join([HEAD, *(line for cls in sections for line in _section(cls, sections))])


def _sections() -> Sections:
    """Return all settings in the order of the page, each with a title of its own."""
    found: Sections = {Recipe: "A recipe", CascadeRecipe: "A cascade's recipe"}
    steps = {method.settings: name for name, method in discover().items()}
    waiting = [Recipe, *steps, CascadeRecipe]
    while waiting:
        cls = waiting.pop(0)
        if cls in steps:
            found[cls] = steps[cls]
        for name, field in cls.model_fields.items():
            for inner in _models_in(field.annotation):
                if inner not in found and inner not in steps and inner.__name__ != "Step":
                    found[inner] = _title(inner, name, found[cls], set(found.values()))
                    waiting.append(inner)
    return found


def _title(cls: type[BaseModel], key: str, within: str, taken: set[str]) -> str:
    if issubclass(cls, LossSettings):
        (name,) = get_args(cls.model_fields["name"].annotation)
        return f"loss: {name}"
    return f"{within}.{key}" if key in taken else key


def _models_in(annotation: Any) -> Iterator[type[RecipeModel]]:
    """Yield the settings that an annotation mentions, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, RecipeModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _section(cls: type[BaseModel], sections: Sections) -> Iterator[str]:
    """Yield the lines of a section: what the settings are, and a table of the keys."""
    nodes = cls.model_json_schema().get("properties", {})
    said = _comments(cls)
    yield f"\n## {sections[cls]}\n"
    yield f"{inspect.cleandoc(cls.__doc__ or '')}\n"
    if not nodes:
        return
    yield "| key | what it takes | default | |"
    yield "| --- | --- | --- | --- |"
    for name, node in nodes.items():
        if node.get("deprecated"):
            continue
        inner = [x for x in _models_in(cls.model_fields[name].annotation) if x in sections]
        takes = _takes(name, node, [_link(sections[x]) for x in inner])
        default = "" if cls.model_fields[name].is_required() else _default(node)
        yield f"| `{name}` | {_cell(takes)} | {_cell(default)} | {_cell(said.get(name, ''))} |"


def _takes(name: str, node: dict[str, Any], links: list[str]) -> str:
    if name == "candidates":
        steps = ", ".join(_link(step) for step in discover())
        return f"names, each with a list of steps: {steps}, or `from` in the first"
    return _in_words(node).replace(SETTINGS, " or ".join(links))


def _in_words(node: dict[str, Any]) -> str:
    """Return what a node of the schema takes; SETTINGS stands for links to those of their own."""
    if "$ref" in node or "discriminator" in node:
        return SETTINGS
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(filter(None, map(_in_words, node["anyOf"]))))
    if "enum" in node or "const" in node:
        return ", ".join(f"`{x}`" for x in node.get("enum", [node.get("const")]))
    kind = node.get("type")
    if kind == "array":
        least, most = node.get("minItems"), node.get("maxItems")
        count = f" of {least}" if least is not None and least == most else ""
        return f"list{count}: {_in_words(node['items'])}"
    if kind == "object":
        values = [node.get("additionalProperties"), *node.get("patternProperties", {}).values()]
        inner = next((_in_words(x) for x in values if isinstance(x, dict)), "")
        return f"names, each with {inner}" if inner else "mapping"
    return "" if kind in (None, "null") else KINDS[kind] + _bounds(node)


def _bounds(node: dict[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above"}
    upper = {"maximum": "to", "exclusiveMaximum": "below"}
    given = [f"{word} {node[key]:g}" for key, word in (words | upper).items() if key in node]
    return f" {' '.join(given)}" if given else ""


def _default(node: dict[str, Any]) -> str:
    value = node.get("default")
    if value is None:
        return "none"
    if isinstance(value, dict) and value:
        return f"`{value['name']}`" if "name" in value else "its own"
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def _link(title: str) -> str:
    anchor = re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-")
    return f"[{title}](#{anchor})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


@cache
def _comments(cls: type[BaseModel]) -> dict[str, str]:
    """Return what comments say of each setting, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, RecipeModel) and base.__module__ != RecipeModel.__module__:
            found |= _comments_in(base)
    return found


def _comments_in(cls: type[BaseModel]) -> dict[str, str]:
    """Return the comments of one class's text: beside a setting, below it, or, if they begin with
    a capital, above it.
    """
    try:
        text = inspect.getsource(cls)
    except (OSError, TypeError):  # made by create_model
        return {}
    (definition,) = ast.parse(text).body
    assert isinstance(definition, ast.ClassDef)
    fields = [x for x in definition.body if isinstance(x, ast.AnnAssign)]
    found: dict[str, str] = {}
    above = False  # whether the line before is a comment on what follows
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, words = token.start[0], token.string.lstrip("# ")
        alone = not token.line[: token.start[1]].strip()
        above = alone and (words[:1].isupper() or (above and line == last + 1))
        last = line
        following = [x for x in fields if x.lineno > line]
        beside = [x for x in fields if x.lineno <= line]
        field = following[0] if above and following else beside[-1] if beside else None
        if field is not None and isinstance(field.target, ast.Name):
            name = field.target.id
            found[name] = f"{found[name]} {words}" if name in found else words
    return {name: words for name, words in found.items() if not words.startswith("type: ignore")}
