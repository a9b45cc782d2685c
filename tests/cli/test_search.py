"""`compress search` as people type it: what is wrong is said before anything is done."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from compress.cli import app
from compress.cli.search import _written
from compress.models.builders import build
from compress.recipe.load import load_recipe
from compress.utils.errors import UserError
from compress.utils.quantities import parse_duration

TINY = {
    "name": "tiny",
    "teacher": {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": {"epochs": 1}},
    "candidates": {"int8": [{"quantize": {}}]},
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5 h", 5400), ("1d", 86400)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "no time"),
        ("0h", "no time at all"),
        ("10y", "y no unit"),
        ("1h2h", "no time"),
        ("-3m", "no time"),
        ("2", "no time"),
        ("", "no time"),
        ("1h 30", "no time"),
    ],
)
def test_other_times_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_duration(text)


def asked(*words: object) -> UserError:
    """Run the command, which refuses."""
    answer = CliRunner().invoke(app, ["search", *map(str, words)])
    assert isinstance(answer.exception, UserError), answer.output
    return answer.exception


def test_what_is_asked_must_make_sense(
    shapes: Path, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = write_recipe(TINY | {"data": {"path": str(shapes)}})
    out = ["--out", tmp_path / "out"]
    assert "--within: '0'" in str(asked(recipe, "--within", "0", *out))
    assert "There is no target" in str(asked(recipe, *out))
    both = asked(recipe, "--teacher", "a:b", "--speedup", "2", *out)
    assert "--teacher: the recipe says that" in str(both)
    missing = asked("--speedup", "5", *out)
    assert "--teacher, --weights, --data" in str(missing)
    assert not (tmp_path / "out" / "runs").exists()


def test_of_several_networks_each_is_searched_by_itself() -> None:
    assert "search those of each stage" in str(asked("whale_pipeline", "--speedup", "5"))


def test_a_recipe_is_written_for_ones_own_model(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.safetensors"
    made = build("teachers.vgg:vgg16_bn", {}, 3, (), (3, 32, 32))
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, weights)
    path = _written("teachers.vgg:vgg16_bn", str(weights), shapes, "64", None, tmp_path, [])
    recipe = load_recipe(path)
    families = {recipe.point(name).family for name in recipe.candidates}
    assert {"int8", "factorized_int8", "pruned", "pruned_int8", "mobilenet_v2"} <= families
    of_mobilenet = [x for x in recipe.candidates if recipe.point(x).family == "mobilenet_v2"]
    assert all(len(recipe.point(x).positions) == 2 for x in of_mobilenet)
    assert len(of_mobilenet) == 4
    assert not any("control" in name for name in recipe.candidates)
    assert str(path) in capsys.readouterr().out
    # The same command goes on with it; another one would search something else.
    again = _written("teachers.vgg:vgg16_bn", str(weights), shapes, "64", None, tmp_path, [])
    assert again == path
    with pytest.raises(UserError, match=f"`compress search {path}` searches it"):
        _written("teachers.vgg:vgg16_bn", str(weights), shapes, "32", None, tmp_path, [])
