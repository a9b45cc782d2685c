"""`compress schema`: what editors need to help with recipes."""

import json
from typing import Any

import typer

MODELS = "#/$defs/"


def schema() -> None:
    """Print the JSON Schema of recipes.

    In VS Code: "yaml.schemas": {"recipe.schema.json": "recipes/**/*.yaml"}.
    """
    typer.echo(json.dumps(any_schema(), indent=2))


def any_schema() -> dict[str, Any]:
    """Return the schema of both kinds of recipes and of the files for their sections.

    What one has and those after it have not tells them apart.
    """
    from compress.cascade.recipe import PATHS, CascadeRecipe
    from compress.recipe.schema import DataSettings, TeacherSettings

    teacher, data = TeacherSettings.model_json_schema(), DataSettings.model_json_schema()
    pipeline = _with_files(CascadeRecipe.model_json_schema())
    made = recipe_schema()
    definitions = made.pop("$defs")
    for keys, kind in (
        (("builder", "path"), data),
        (("onnx", "weights", "train"), teacher),
        (PATHS, pipeline),
    ):
        definitions = kind.pop("$defs", {}) | definitions
        one_of_them = {"anyOf": [{"required": [key]} for key in keys]}
        made = {"if": one_of_them, "then": kind, "else": made}
    return made | {"$defs": definitions}


def recipe_schema() -> dict[str, Any]:
    """Return the schema of a network's recipe as written: steps' settings may be lists of values.

    Models that steps share with other parts of a recipe stand in it twice: only steps have grids
    (recipe/grid.py).
    """
    from compress.recipe.beginning import FROM
    from compress.recipe.schema import Recipe

    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    in_steps: dict[str, Any] = {}

    def with_grids(node: Any) -> Any:
        if isinstance(node, list):
            return [with_grids(item) for item in node]
        if isinstance(node, str) and node.startswith(MODELS):
            name = node.removeprefix(MODELS)
            if name not in in_steps:
                in_steps[name] = None  # a model may hold itself
                in_steps[name] = with_grids(definitions[name])
            return f"{node}InStep"
        if not isinstance(node, dict):
            return node
        made = {key: with_grids(value) for key, value in node.items()}
        if "properties" in made:
            made["properties"] = {
                k: v if k == FROM else _or_several(v) for k, v in made["properties"].items()
            }
        return made

    schema["properties"]["candidates"] = with_grids(schema["properties"]["candidates"])
    definitions |= {f"{name}InStep": node for name, node in in_steps.items()}
    return _with_files(schema)


def _with_files(recipe: dict[str, Any]) -> dict[str, Any]:
    """Let a section be the name of its file; if it is none, faults are those of its settings."""
    from compress.recipe.sections import EXAMPLES, SUFFIX

    named = {"type": "string", "pattern": SUFFIX}
    for section in EXAMPLES.keys() & recipe["properties"].keys():
        settings = recipe["properties"][section]
        recipe["properties"][section] = {"if": {"type": "string"}, "then": named, "else": settings}
    return recipe


def _or_several(node: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [node, {"type": "array", "items": node, "minItems": 1}]}
