"""Scenes in words: repeatable, readable as captions, and true of what is painted."""

import csv
import filecmp
from pathlib import Path

import numpy as np
import pytest

from compress.recipe.load import load_recipe
from compress.tasks import read_for
from compress.tasks.base import Source
from compress.tasks.captioning.facts import Reader
from compress.tasks.captioning.settings import Captions
from compress.tasks.captioning.task import Captioning
from compress.tasks.captioning.words import words_of
from teachers.whale_captions import captioned_scenes, captions, draw_scene, heading

SMALL = {"pictures": 60, "unlabelled": 3, "size": 48, "seed": 3}
RECIPE = load_recipe(Path(__file__).parents[2] / "recipes/caption.yaml")
ASKED = RECIPE.data.asked[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scenes")
    captioned_scenes(made, **SMALL)
    return made


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_makes_the_same_scenes(folder: Path, tmp_path: Path) -> None:
    captioned_scenes(tmp_path, **SMALL)
    tables = ["train.csv", "split.csv", "whales.csv"]
    names = [*tables, *(f"imgs/{i:05d}.jpg" for i in range(63))]
    assert filecmp.cmpfiles(folder, tmp_path, names, shallow=False)[0] == names


def test_they_are_read_as_captions_that_are_taken_whole(folder: Path) -> None:
    assert isinstance(ASKED, Captions)
    data = read_for(Captioning, Source(folder), ASKED, named=True)
    assert all(len(image.truth) == 5 for image in data.images[:60])
    assert len(data.indices("unlabelled")) == 3 and len(data.indices("validation")) > 12
    said: list[str] = []
    Captioning.checked(data, said.append)
    assert not any("are cut" in note for note in said)
    boxed = [image for image in data.images if "width" in image.annotations]
    assert 10 < len(boxed) < 50
    assert all(image.annotations["x"] + image.annotations["width"] <= 48 for image in boxed)


def test_all_that_is_told_can_be_read_back() -> None:
    assert isinstance(ASKED, Captions)
    reader, rng = Reader(ASKED.facts), np.random.default_rng(0)
    for _ in range(300):
        scene = draw_scene(rng, 12)
        expected = {
            "count": len(scene.whales),
            "heading": None if scene.hour is None else scene.hour - 1,
            "place": scene.place,
            "sea": scene.roughness,
            "glint": int(scene.glint),
        }
        assert list(expected) == list(reader.names)
        for caption in captions(scene, rng):
            told = reader.read(words_of(caption))
            named = [next(iter(values), None) for values in told]
            assert named == list(expected.values()), caption
            assert all(len(values) < 2 for values in told)


def test_whales_head_where_it_is_told() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        scene = draw_scene(rng, 4)
        assert scene.hour in (None, 3, 6, 9, 12)
        for outline, _ in scene.whales:
            clock = (np.degrees(heading(outline)) + 90) / 30  # hours from up, clockwise
            assert abs((clock - scene.hour + 6) % 12 - 6) <= 8 / 30 + 1e-6


def test_some_combinations_are_never_trained_on(folder: Path) -> None:
    assert isinstance(ASKED, Captions)
    rng = np.random.default_rng(0)
    held: dict[tuple[int, int | None, int], set[bool]] = {}
    for _ in range(600):
        scene = draw_scene(rng)
        together = len(scene.whales), scene.hour, scene.roughness
        held.setdefault(together, set()).add(scene.held_out)
    assert all(len(said) == 1 for said in held.values())
    never = {together for together, said in held.items() if True in said}
    assert 0.1 < len(never) / len(held) < 0.25
    reader = Reader(ASKED.facts)
    split = {row["Image"]: row["split"] for row in rows(folder / "split.csv")}
    for row in rows(folder / "train.csv"):
        count, hour, _, sea, _ = (
            next(iter(x), None) for x in reader.read(words_of(row["caption_1"]))
        )
        if (count, None if hour is None else hour + 1, sea) in never:
            assert split[row["Image"]] == "validation"


def test_boxes_of_all_whales_lie_in_the_frame(folder: Path) -> None:
    whales = rows(folder / "whales.csv")
    one = {row["Image"] for row in rows(folder / "train.csv") if row["x"]}
    heads = {row["Photograph"]: row for row in whales if row["Photograph"] in one}
    assert len(heads) == len(one)
    for row in rows(folder / "train.csv"):
        if row["x"]:
            mine = heads[row["Image"]]
            assert [row[x] for x in ("x", "y")] == [mine["head_x"], mine["head_y"]]
    for row in whales:
        if row["width"]:
            assert 0 <= float(row["x"]) <= float(row["x"]) + float(row["width"]) <= 48.01


def test_directions_are_on_a_clock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 directions are not on the hours of a clock"):
        captioned_scenes(tmp_path, hours=5)
