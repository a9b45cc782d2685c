"""Recipes that come with compress: each has a name, by which it runs wherever one stands."""

from pathlib import Path

from compress.utils.errors import UserError

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "shipped", PACKAGE.parent / "recipes")  # of a wheel (setup.py), of a checkout


def shipped() -> dict[str, Path]:
    """Return the files of the recipes by name."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), None)
    return {} if folder is None else {x.stem: x for x in sorted(folder.glob("*.yaml"))}


def located(recipe: Path) -> Path:
    """Return a recipe's file: the one at the path, or else the shipped recipe of that name.

    Raises:
        UserError: it can only be a name, and there is none of that name.
    """
    if recipe.is_file() or recipe.suffix:
        return recipe
    found = shipped().get(str(recipe))
    if found is None:
        raise UserError(
            f"No recipe at {recipe}, and none of that name comes with compress: `compress recipes` "
            "lists those that do."
        )
    return found
