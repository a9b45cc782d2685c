"""`compress schema`: what editors need to help with recipes."""

import json

import typer


def schema() -> None:
    """Print the JSON Schema of recipes.

    In VS Code: "yaml.schemas": {"recipe.schema.json": "recipes/**/*.yaml"}.
    """
    from compress.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))
