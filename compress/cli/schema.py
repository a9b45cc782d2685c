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
    """Of both kinds of recipes: what a pipeline's has and others have not tells them apart."""
    from compress.cascade.recipe import WAYS, PipelineRecipe

    network, pipeline = recipe_schema(), PipelineRecipe.model_json_schema()
    return {
        "$defs": pipeline.pop("$defs") | network.pop("$defs"),
        "if": {"required": [WAYS]},
        "then": pipeline,
        "else": network,
    }


def recipe_schema() -> dict[str, Any]:
    """Of a network's recipe as written: a step's setting may be a list of values (recipe/grid.py).

    Models that steps share with other parts of a recipe stand in it twice: only steps have grids.
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
    return schema


def _or_several(node: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [node, {"type": "array", "items": node, "minItems": 1}]}
