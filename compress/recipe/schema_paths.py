"""What a model's schema allows at a key path, and which written key a fault's location means."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from compress.recipe.yaml_file import KeyPath
from compress.utils.settings import NOW

TAGGED = "x-tagged"  # a member of a union that a key within it tells apart


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def schema_at(model: type[BaseModel], at: KeyPath) -> list[dict[str, Any]]:
    """What a model's schema allows at a key path, as alternatives; nothing for unknown keys."""
    schema = _schema(model)
    definitions = schema.get("$defs", {})

    def options(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return options(definitions[node["$ref"].rpartition("/")[2]])
        inner = [
            o for k in ("anyOf", "oneOf", "allOf") for n in node.get(k, []) for o in options(n)
        ]
        if "discriminator" in node:
            inner = [option | {TAGGED: True} for option in inner]
        return inner or [node]

    nodes = options(schema)
    for key in at:
        following: list[dict[str, Any]] = []
        for node in nodes:
            if isinstance(key, int) and "items" in node:
                following += options(node["items"])
            elif key in node.get("properties", {}):
                following += options(node["properties"][key])
            elif isinstance(node.get("additionalProperties"), dict):
                following += options(node["additionalProperties"])
            else:  # keys of one's own that are to look like names
                for values in node.get("patternProperties", {}).values():
                    following += options(values)
        nodes = following
    return nodes


def known_keys(model: type[BaseModel], at: KeyPath) -> dict[str, str | None]:
    """The keys that the schema allows at a key path; what is an old name, with the one now."""
    return {
        key: value.get(NOW)
        for node in schema_at(model, at)
        for key, value in node.get("properties", {}).items()
    }


def given_path(model: type[BaseModel], data: Any, location: KeyPath) -> KeyPath:
    """The key path in plain data that one of pydantic's locations means.

    A location names the member of a union, which nobody wrote, and settings by the names they have
    now. What is missing is the path's end.
    """
    at: KeyPath = ()
    here = data
    tag_at: KeyPath | None = None  # where the member of a union was left out
    for key in location:
        nodes = schema_at(model, at)
        if at != tag_at and any(TAGGED in node for node in nodes):
            tag_at = at
            continue
        has_keys = any(node.get("type", "object") == "object" for node in nodes)
        known = known_keys(model, at)
        given = [key, *(old for old, now in known.items() if now == key)]
        if has_keys and isinstance(here, dict) and (found := [k for k in given if k in here]):
            at, here = (*at, found[0]), here[found[0]]
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            at, here = (*at, key), here[key]
        elif key in known:
            at, here = (*at, key), None
    return at
