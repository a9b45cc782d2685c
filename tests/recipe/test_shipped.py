"""Recipes that come with compress run by their names, wherever one stands."""

from pathlib import Path

import pytest

from compress.cascade.recipe import load_any
from compress.recipe.shipped import located, shipped
from compress.utils.errors import UserError


def test_a_name_is_a_recipe_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_any(Path("quantize_vgg")).asked.name == "quantize_vgg"
    assert set(load_any(Path("whale_pipeline")).stages) >= {"localizer", "classifier"}


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("quantize_vgg")
    own.write_text("name: mine")
    assert located(own) == own


def test_names_are_those_that_the_recipes_give_themselves() -> None:
    assert "distill_shufflenet" in shipped()
    assert [load_any(file).asked.name for file in shipped().values()] == list(shipped())


def test_of_no_recipe_it_is_said_where_there_are_some() -> None:
    with pytest.raises(UserError, match=r"No recipe at walk, .*`compress recipes` lists"):
        located(Path("walk"))
    assert located(Path("walk.yaml")) == Path("walk.yaml")  # a file that is not there: as before
