"""Scenes with attributes: repeatable, readable as several labels an image, and told by pixels."""

import filecmp
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.tasks import read_for
from compress.tasks.base import Source
from compress.tasks.multilabel.labels import names_in, truths
from compress.tasks.multilabel.settings import Labels
from compress.tasks.multilabel.task import Multilabel
from teachers.scenes import LABELS, scene, scenes

SMALL = {"pictures": 40, "unlabelled": 4, "size": 48, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scenes")
    scenes(made, **SMALL)
    return made


def test_the_same_seed_makes_the_same_scenes(folder: Path, tmp_path: Path) -> None:
    scenes(tmp_path, **SMALL)
    names = ["train.csv", *(f"imgs/{i:05d}.jpg" for i in range(44))]
    assert filecmp.cmpfiles(folder, tmp_path, names, shallow=False)[0] == names


def test_they_are_read_as_several_labels_an_image(folder: Path) -> None:
    data = read_for(Multilabel, Source(folder), Labels(), named=True)
    assert names_in(data) == LABELS and len(data.indices("unlabelled")) == 4
    there = truths(data, LABELS)[:40]
    assert 0 < np.isnan(there).mean() < 0.15
    assert ((there == 1).any(0) & (there == 0).any(0)).all()
    whale, several, cut_off = there[:, 0], there[:, 1], there[:, 2]
    assert not ((whale == 0) & ((several == 1) | (cut_off == 1))).any()
    assert not ((there[:, 4] == 1) & (there[:, 5] == 1)).any()  # choppy, or rough
    assert Image.open(folder / "imgs/00000.jpg").size == (48, 48)


def test_labels_say_what_the_pixels_show() -> None:
    rng = np.random.default_rng(0)
    made = [scene(rng, 48) for _ in range(80)]
    pixels = np.stack([np.asarray(image.convert("L"), dtype=float) for image, _ in made])
    has = {name: np.array([labels[name] for _, labels in made]) for name in LABELS}

    calm = ~has["glint"] & ~has["choppy"] & ~has["rough"] & ~has["whale"]
    waves = np.abs(np.diff(pixels, axis=1)).mean((1, 2))
    bright = np.quantile(pixels, 0.99, axis=(1, 2))
    assert bright[has["glint"]].min() > bright[calm].max()
    plain = ~has["glint"]
    assert np.median(waves[has["rough"] & plain]) > 1.5 * np.median(waves[has["choppy"] & plain])
    # At the rim of a scene in which whales are whole there is none.
    rim = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], 1)
    darkest = rim.min(1) / np.median(pixels, axis=(1, 2))
    sea = plain & ~has["rough"] & ~has["choppy"]
    assert np.median(darkest[sea & has["cut_off"]]) < np.median(darkest[sea & ~has["cut_off"]])
