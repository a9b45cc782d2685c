"""A section may stand in a file of its own, which several recipes name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.recipe.load import load_recipe
from compress.utils.errors import UserError

Write = Callable[..., Path]

RECIPE = """\
name: x
seed: 3
data: parts/images.yaml
teacher: parts/teacher.yaml
candidates:
  int8:
    - quantize: {}
"""
DATA = """\
# Whose images these are.
path: ../images
validation_fraction: 0.3
"""
TEACHER = """\
# A comment.
builder: teachers.vgg:vgg16_bn
weights: ../weights/teacher.safetensors
image_size: 64
train:
  epochs: 5
"""


@pytest.fixture
def recipe(write_recipe: Write, tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "teacher.yaml").write_text(TEACHER)
    (tmp_path / "parts" / "images.yaml").write_text(DATA)
    return write_recipe(RECIPE)


def faults(recipe: Path, *assignments: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, assignments=assignments)
    title, *lines = str(caught.value).splitlines()
    assert f"{len(lines)} fault" in title
    return [line.strip().replace(f"{recipe.parent}/", "") for line in lines]


def test_a_sections_file_stands_for_it_written_out(recipe: Path, write_recipe: Write) -> None:
    def within(text: str) -> str:
        return "".join(f"  {line}\n" for line in text.replace("../", "").splitlines())

    written_out = RECIPE.replace(" parts/images.yaml\n", f"\n{within(DATA)}")
    written_out = written_out.replace(" parts/teacher.yaml\n", f"\n{within(TEACHER)}")
    loaded = load_recipe(recipe)
    assert loaded == load_recipe(write_recipe(written_out, "other.yaml"))
    assert loaded.data.path == str(recipe.parent / "images")
    assert loaded.teacher.weights == str(recipe.parent / "weights" / "teacher.safetensors")


def test_settings_of_it_are_set_as_if_written_out(recipe: Path, tmp_path: Path) -> None:
    changes = ["teacher.train.epochs=1", "teacher.weights=mine.safetensors", "data.fit=stretch"]
    loaded = load_recipe(recipe, assignments=changes)
    assert loaded.teacher.train is not None and loaded.teacher.train.epochs == 1
    assert loaded.teacher.weights == str(tmp_path / "mine.safetensors")  # as --set always was
    assert loaded.data.fit == "stretch" and loaded.data.path == str(tmp_path / "images")
    moved = load_recipe(recipe, data=tmp_path / "others").data
    assert (moved.path, moved.validation_fraction) == (str(tmp_path / "others"), 0.3)


def test_another_file_can_be_set(recipe: Path) -> None:
    other = recipe.parent / "other.yml"
    other.write_text("builder: teachers.vgg:vgg16_bn\ntrain: {epochs: 7}\n")
    changes = ["teacher=other.yml", "teacher.image_size=32"]
    for text in (RECIPE, RECIPE.replace("parts/teacher", "gone")):
        recipe.write_text(text)
        loaded = load_recipe(recipe, assignments=changes).teacher
        assert loaded.train is not None
        assert (loaded.train.epochs, loaded.image_size, loaded.weights) == (7, 32, None)
    other.write_text("builder: os:system\ntrain: {epochs: 7}\n")
    [fault] = faults(recipe, *changes)
    assert fault.startswith("other.yml:1: teacher.builder: 'os:system' is refused")


def test_faults_name_the_file_and_line_that_they_are_in(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("seed", "sed"))
    teacher = TEACHER.replace("epochs: 5", "epochs: -5").replace("image_size: 64", "size: 64")
    (recipe.parent / "parts" / "teacher.yaml").write_text(teacher + "  epochs: 0\n")
    (recipe.parent / "parts" / "images.yaml").write_text("# Nothing.\nfit: crop\n")
    assert faults(recipe, "teacher.views=0") == [
        "--set: teacher.views: input should be greater than or equal to 1, not 0",
        "tiny.yaml:2: sed: unknown key; did you mean 'seed'?",
        "parts/images.yaml:2: data: give a path (or --data), or a builder that makes the images",
        "parts/teacher.yaml:4: teacher.size: unknown key; did you mean 'image_size'?",
        "parts/teacher.yaml:7: teacher.train.epochs: input should be greater than or equal to 1, "
        "not 0",
        "parts/teacher.yaml:7: teacher.train.epochs: is given twice (first on line 6)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file FILE: give its path relative to the recipe"),
        ("- a\n", "FILE: expected keys and values (builder: …, weights: …)."),
        ("a: [\n", "FILE:2: not valid YAML: "),
        ("a: !!python/object/apply:os.system [ls]\n", "FILE:1: not valid YAML: "),
    ],
)
def test_what_is_no_file_of_settings_is_one_fault_of_several(
    recipe: Path, text: str | None, said: str
) -> None:
    file = recipe.parent / "parts" / "teacher.yaml"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    recipe.write_text(RECIPE.replace("seed", "sed"))
    found = faults(recipe, "teacher.train.epochs=1")
    assert found[0] == "tiny.yaml:2: sed: unknown key; did you mean 'seed'?"
    assert found[1].startswith(
        f"tiny.yaml:4: teacher: {said.replace('FILE', 'parts/teacher.yaml')}"
    )
    assert len(found) == 2


def test_only_yaml_files_are_read(recipe: Path) -> None:
    (recipe.parent / "secret").write_text("password: x\n")
    recipe.write_text(RECIPE.replace("parts/teacher.yaml", "secret"))
    assert faults(recipe) == [
        "tiny.yaml:4: teacher: expected keys and values, or the path of a YAML file, not 'secret'"
    ]


def test_a_file_of_settings_names_no_other(recipe: Path) -> None:
    (recipe.parent / "parts" / "images.yaml").write_text("data: images.yaml\npath: .\n")
    assert faults(recipe) == ["parts/images.yaml:1: data.data: unknown key; did you mean 'task'?"]
