"""Exit codes, sentences without tracebacks, and a start that never imports torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from compress import __version__
from compress.recipe.yaml_file import read_recipe_file
from tests.conftest import tiny_recipe

Write = Callable[..., Path]


def compress(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "compress", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | (env or {}),
    )


@pytest.mark.parametrize(
    "code",
    [
        "import compress.cli",
        "from compress.results.file import read; from compress.analysis.choose import choose",
        "from compress.recipe.load import load_recipe; from pathlib import Path;"
        "import compress.cli;"
        "load_recipe(Path('recipes/distill_shufflenet.yaml'))",
    ],
)
def test_torch_is_not_imported(code: str) -> None:
    check = f"{code}; import sys;"
    check += "heavy = {'torch', 'onnxruntime', 'openvino', 'scipy', 'altair'};"
    check += "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_user_error_is_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = compress("run", tmp_path / "missing.yaml")
    assert done.returncode == 2
    assert done.stderr == f"Error: No recipe at {tmp_path / 'missing.yaml'}.\n"
    done = compress("choose", "--speedup", 5, "--max-accuracy-drop", 0.01, cwd=tmp_path)
    assert done.returncode == 2 and "run a recipe first" in done.stderr


def test_check_says_what_is_wrong(write_recipe: Write, shapes: Path) -> None:
    done = compress("check", write_recipe(tiny_recipe(shapes)))
    assert done.returncode == 0 and "is right: 17 stages, 4 rows" in done.stdout
    assert "36 labelled images of 3 classes, 6 unlabelled" in done.stdout
    recipe = tiny_recipe(shapes)
    recipe["teacher"]["builder"] = "teachers.vgg:vgg17"
    recipe["teacher"]["weights"] = "nothing.safetensors"
    recipe["data"]["path"] = "/nowhere"
    done = compress("check", write_recipe(recipe))
    assert done.returncode == 2
    assert "teachers.vgg has no function 'vgg17'" in done.stderr
    assert "No data at /nowhere" in done.stderr
    assert "No weights at" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_computes_nothing(write_recipe: Write, shapes: Path, tmp_path: Path) -> None:
    done = compress("run", write_recipe(tiny_recipe(shapes)), "--dry-run", "--out", tmp_path / "o")
    assert done.returncode == 0
    assert done.stdout.count("to do") == 17
    assert not (tmp_path / "o").exists()


def test_schema_is_json_schema() -> None:
    schema = json.loads(compress("schema").stdout)
    Draft202012Validator.check_schema(schema)
    said = Draft202012Validator(schema)
    recipes = Path(__file__).parents[2] / "recipes"
    for path in recipes.rglob("*.yaml"):
        assert not list(said.iter_errors(read_recipe_file(path).data)), path
    for name, without in (("whale_pipeline", "stages"), ("classifier", "teacher")):
        data = read_recipe_file(recipes / f"{name}.yaml").data
        del data[without]
        [fault] = said.iter_errors(data)
        assert f"'{without}' is a required property" in fault.message
    for name in ("everything", "data/heads", "teachers/vgg16_heads"):
        data = read_recipe_file(recipes / f"{name}.yaml").data
        [fault] = said.iter_errors(data | {"sed": 1})
        assert "'sed' was unexpected" in fault.message
    data = read_recipe_file(recipes / "everything.yaml").data
    assert list(said.iter_errors(data | {"teacher": "resnet18"}))  # no file of settings


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_a_terminal_cannot_show_is_replaced(
    encoding: str, write_recipe: Write, tmp_path: Path
) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "train.csv").write_text("image,label,★x\na.png,ł,1\nb.png,★,2\n", "utf-8")
    recipe = tiny_recipe(tmp_path)
    recipe["data"]["label_column"] = "★x"
    done = compress("check", write_recipe(recipe), env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    # Where a terminal says it is ASCII, click takes that for a mistake and writes UTF-8.
    shown = "★x" if encoding == "ascii" else "?x"
    assert f"labels from '{shown}'" in done.stdout


def test_names_that_are_no_text_where_it_runs(write_recipe: Write, tmp_path: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    for name in ("tern", "gull"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "birds" / name / "é.png")
    path = write_recipe(tiny_recipe(tmp_path / "birds"))
    done = compress("check", path, env=environment)
    assert done.returncode == 0 and "2 labelled images of 2 classes" in done.stdout, done.stderr
    (tmp_path / "birds" / "tern").rename(tmp_path / "birds" / "Möwe")
    done = compress("check", path, env=environment)
    assert done.returncode == 2 and "rename it, or set LC_ALL=C.UTF-8" in done.stderr


def test_the_version_is_told() -> None:
    done = compress("--version")
    assert done.returncode == 0
    assert done.stdout == f"compress {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("ch", ["choose", "check"]), ("choose --max-a", ["--max-accuracy-drop"])],
)
def test_shells_complete_commands_and_options(typed: str, completed: list[str]) -> None:
    words = f"compress {typed}"
    asked = {"_COMPRESS_COMPLETE": "complete_bash", "COMP_WORDS": words}
    done = subprocess.run(  # as the script that pip makes does
        [sys.executable, "-c", "import sys; sys.argv = ['compress']; import compress.__main__"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | asked | {"COMP_CWORD": str(words.count(" "))},
    )
    assert done.stdout.split() == completed
