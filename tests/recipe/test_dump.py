"""A recipe written out is the same recipe."""

from pathlib import Path

import pytest

from compress.cascade.recipe import is_cascade
from compress.recipe.dump import recipe_text
from compress.recipe.load import load_recipe
from compress.recipe.yaml_file import read_recipe_file
from tests.conftest import shipped_recipes

NETWORKS = [x for x in shipped_recipes() if not is_cascade(read_recipe_file(x))]


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_what_is_written_loads_as_the_same(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    text = recipe_text(recipe, folder, "The same again.")
    (folder / "again.yaml").write_text(text)
    assert text.startswith("# The same again.\nversion: 1\nname: ")
    again = load_recipe(folder / "again.yaml")
    without = {"search"}
    assert again.model_dump(exclude=without) == recipe.model_dump(exclude=without)
