"""The data stage: known by its contents, links followed; images that a builder cuts out."""

import hashlib
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from compress.data.image_files import SUFFIXES
from compress.data.layouts import read_folder
from compress.measure.machine import machine
from compress.methods.context import BUILT
from compress.recipe.load import load_recipe
from compress.utils.progress import Progress
from compress.workflow.run import context_of
from compress.workflow.stages import data
from teachers import whale_frames

SETTINGS = {"individuals": 3, "pictures": 12, "width": 160, "height": 107}


def recipe_of(folder: Path) -> Path:
    recipe = {
        "version": 1,
        "name": "crops",
        "data": {
            "path": "frames",
            "builder": "teachers.whale_frames:head_crops",
            "settings": {"size": 32},
            "points": {"tip": ["bonnet_tip_x", "bonnet_tip_y"]},
        },
        "teacher": {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": {"epochs": 1}},
        "candidates": {"int8": [{"quantize": {}}]},
    }
    (folder / "crops.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "crops.yaml"


def test_a_builder_makes_the_images_out_of_those_at_the_path(tmp_path: Path) -> None:
    whale_frames.frames(tmp_path / "frames", **SETTINGS)
    loaded = load_recipe(recipe_of(tmp_path))
    stage = data.plan(loaded.data, 0)
    assert "frames" in stage.title and "head_crops" in stage.title
    context = context_of(loaded, tmp_path, machine(), 1, Progress(Console(quiet=True)), ())
    (tmp_path / "stage").mkdir()
    data.run(stage, {}, tmp_path / "stage", context)
    made = context.data(tmp_path / "stage")
    assert made.root == tmp_path / "stage" / BUILT
    assert len(made.images) == 12
    assert all(path.is_file() for path in made.paths(made.indices("train", "validation")))
    assert made.coordinates.shape == (12, 1, 2)

    # The data are known by what they were made of, and of whom; nobody knows what a builder reads.
    (tmp_path / "frames" / "annotations.json").write_text("{}")
    assert data.plan(loaded.data, 0).key != stage.key
    (tmp_path / "frames" / "annotations.json").unlink()
    assert data.plan(loaded.data, 0).key == stage.key
    (tmp_path / "frames" / "imgs" / "w_00000.jpg").unlink()
    assert data.plan(loaded.data, 0).key != stage.key


def test_other_images_are_cut_by_the_same_builder(tmp_path: Path) -> None:
    whale_frames.frames(tmp_path / "frames", **SETTINGS)
    whale_frames.frames(tmp_path / "others", **SETTINGS | {"seed": 5})
    path = recipe_of(tmp_path)
    other = load_recipe(path, data=tmp_path / "others").data
    assert other.path == str(tmp_path / "others")
    assert other.builder == "teachers.whale_frames:head_crops"
    assert data.plan(other, 0).key != data.plan(load_recipe(path).data, 0).key


# The fingerprint


def without_links(folder: Path) -> str:
    """The fingerprint as it was before links were followed."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in {*SUFFIXES, ".csv"} and file.is_file():
            digest.update(str(file.relative_to(folder)).encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def draw(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


def classes(root: Path, number: int = 2) -> Path:
    for label in range(number):
        for image in range(2):
            draw(root / f"c{label}" / f"{image}.png", 10 * label + image)
    return root


def images_of(root: Path) -> list[str]:
    return [image.path for image in read_folder(root).images]


NAMES = st.sampled_from(
    ["a", "b", "B", "a.b", "a-b", "a b", ".a", "a.png", "b.csv", "ä.JPG", "a.txt"]
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
def test_without_links_the_fingerprint_is_what_it_was(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("data")
    for number, parts in enumerate(files):
        path = root.joinpath(*parts)
        if not path.exists() and all(p.is_dir() or not p.exists() for p in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([number]))
    assert data.fingerprint(root) == without_links(root)


def test_links_to_images_and_broken_ones_change_nothing(tmp_path: Path) -> None:
    root = classes(tmp_path / "data")
    draw(tmp_path / "other.png", 99)
    (root / "c0" / "linked.png").symlink_to(tmp_path / "other.png")
    before = data.fingerprint(root)
    for name in ("c1/gone.png", "gone", "gone.csv"):
        (root / name).symlink_to(tmp_path / "nowhere")
    (root / "c1" / "itself.png").symlink_to("itself.png")
    assert data.fingerprint(root) == without_links(root) == before


@pytest.mark.parametrize("place", ["class", "train", "imgs", "in imgs"])
def test_what_lies_behind_a_link_is_data(tmp_path: Path, place: str) -> None:
    real, root = classes(tmp_path / "real"), tmp_path / "data"
    root.mkdir()
    if place == "class":
        classes(root)
        (root / "c2").symlink_to(real / "c1")
        seen = "c2/0.png"
    elif place == "train":
        for name in ("train", "validation"):
            (root / name).symlink_to(real)
        seen = "train/c1/0.png"
    else:
        if place == "imgs":
            (root / "imgs").symlink_to(real)
            seen = "imgs/c1/0.png"
        else:
            (root / "imgs").mkdir()
            (root / "imgs" / "more").symlink_to(real)
            seen = "imgs/more/c1/0.png"
        named = [seen.removeprefix("imgs/"), seen.removeprefix("imgs/").replace("c1", "c0")]
        (root / "train.csv").write_text(f"Image,Id\n{named[0]},x\n{named[1]},y\n")
    assert seen in images_of(root)
    before = data.fingerprint(root)
    assert before == data.fingerprint(root)
    draw(real / "c1" / "0.png", 200)
    changed = data.fingerprint(root)
    draw(real / "c1" / "new.png", 1)
    assert len({before, changed, data.fingerprint(root)}) == 3


def test_a_link_is_known_as_a_copy_is(tmp_path: Path) -> None:
    linked, copied = classes(tmp_path / "linked"), classes(tmp_path / "copied", 3)
    (linked / "c2").symlink_to(copied / "c2")
    assert data.fingerprint(linked) == data.fingerprint(copied)
    assert images_of(linked) == images_of(copied)


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    root = classes(tmp_path / "data")
    before, images = data.fingerprint(root), images_of(root)
    (root / "c0" / "root").symlink_to(root)
    (root / "c1" / "same").symlink_to(os.curdir)
    assert data.fingerprint(root) == before
    assert images_of(root) == images
    # Each sees the other, once.
    (root / "c0" / "to").symlink_to(root / "c1")
    (root / "c1" / "to").symlink_to(root / "c0")
    more = [f"{a}/to/{image}.png" for a in ("c0", "c1") for image in range(2)]
    assert images_of(root) == sorted(images + more)
    assert data.fingerprint(root) != before
