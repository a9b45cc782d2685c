"""`compress recipes`: what can be run as it is?"""

import typer


def recipes() -> None:
    """List the recipes that come with compress: `compress run NAME` runs one from anywhere.

    They make their own images. Those of classes run on yours with --data.
    """
    from compress.recipe.shipped import shipped
    from compress.recipe.yaml_file import read_recipe_file

    found = shipped()
    width = max(map(len, found), default=0)
    for name, file in found.items():
        typer.echo(f"{name:<{width}}  {read_recipe_file(file).data.get('description', '')}")
    for folder in sorted({file.parent for file in found.values()}):
        typer.echo(f"They are in {folder}.")
