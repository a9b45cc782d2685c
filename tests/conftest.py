"""Tiny real things that the tests share: images, recipes, one finished run."""

import os
import tempfile

# Several test processes on few cores would spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import settings
from PIL import Image

import compress.measure.kernels
import compress.measure.memory
import compress.measure.processes

# How long an example takes says nothing about it: other work may run beside.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

CLASSES = ("bar", "cross", "dot")


def draw(kind: str, rng: np.random.Generator, size: int = 32) -> Image.Image:
    """A bright shape on noise: easy to learn, different every time."""
    image = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
    y, x = rng.integers(size // 3, 2 * size // 3, 2)
    half = size // 6
    if kind in ("bar", "cross"):
        image[y - 2 : y + 2, x - half : x + half] = 230
    if kind == "cross":
        image[y - half : y + half, x - 2 : x + 2] = 230
    if kind == "dot":
        image[y - 3 : y + 3, x - 3 : x + 3] = 230
    return Image.fromarray(image)


def class_folders(root: Path, each: int = 12, unlabelled: int = 6) -> Path:
    """`root/<class>/*.png` and `root/unlabelled/*.png`."""
    rng = np.random.default_rng(0)
    for kind in CLASSES:
        (root / kind).mkdir(parents=True)
        for i in range(each):
            draw(kind, rng).save(root / kind / f"{i:02d}.png")
    (root / "unlabelled").mkdir()
    for i in range(unlabelled):
        draw(CLASSES[i % 3], rng).save(root / "unlabelled" / f"{i:02d}.png")
    return root


def dot_frames(root: Path, count: int = 40, unlabelled: int = 4) -> Path:
    """`root/imgs/*.png`, 48 x 32, each with a red and a green dot, and where they are: points.csv
    (Image,red_x,red_y,green_x,green_y) and the box round both in box.csv (Image,x,y,width,height).
    """
    rng = np.random.default_rng(0)
    (root / "imgs").mkdir(parents=True)
    points, boxes = ["Image,red_x,red_y,green_x,green_y"], ["Image,x,y,width,height"]
    for i in range(count + unlabelled):
        image = rng.integers(0, 60, (32, 48, 3), dtype=np.uint8)
        red, green = rng.integers((6, 6), (20, 26), 2), rng.integers((28, 6), (42, 26), 2)
        for (x, y), channel in ((red, 0), (green, 1)):
            image[y - 3 : y + 3, x - 3 : x + 3, channel] = 240
        Image.fromarray(image).save(root / "imgs" / f"{i:02d}.png")
        if i < count:
            (left, top), (right, bottom) = np.minimum(red, green) - 3, np.maximum(red, green) + 3
            points.append(f"{i:02d}.png,{red[0]},{red[1]},{green[0]},{green[1]}")
            boxes.append(f"{i:02d}.png,{left},{top},{right - left},{bottom - top}")
    (root / "points.csv").write_text("\n".join(points) + "\n")
    (root / "box.csv").write_text("\n".join(boxes) + "\n")
    return root


POINTS = {"red": ["red_x", "red_y"], "green": ["green_x", "green_y"]}


@pytest.fixture(scope="session")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images with two annotated dots, 4 without annotations."""
    return dot_frames(tmp_path_factory.mktemp("data") / "dots")


@pytest.fixture(scope="session", autouse=True)
def as_disturbed_as_tests_are() -> Iterator[None]:
    """Tests run beside each other: measuring until it is quiet would take three times as long, and
    no test asks how long a first run or a layer takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compress.measure.processes, "ATTEMPTS", 1)
        patch.setattr(compress.measure.memory, "PROCESSES", 1)
        patch.setattr(compress.measure.kernels, "ATTEMPTS", 1)
        patch.setattr(compress.measure.kernels, "TURNS", 1)
        patch.setattr(compress.measure.kernels, "TURN_S", 0.01)
        yield


@pytest.fixture(scope="session", autouse=True)
def apart_from_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests and what they start wait for no run on this machine, nor for tests of other processes,
    and none waits for them: the locks lie in the temporary folder. What the user's runs have kept
    they neither find nor add to."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders, 36 labelled and 6 unlabelled images."""
    return class_folders(tmp_path_factory.mktemp("data") / "shapes")


def shipped_recipes() -> list[Path]:
    """Those of the project, without the files that sections of them stand in."""
    files = (Path(__file__).parents[1] / "recipes").rglob("*.yaml")
    return sorted(path for path in files if path.parent.name not in ("data", "teachers"))


def tiny_recipe(data: Path) -> dict[str, Any]:
    """A recipe that runs in seconds: a narrow VGG and the smallest ShuffleNet at 32 px."""
    return {
        "name": "tiny",
        "seed": 1,
        "data": {"path": str(data), "validation_fraction": 0.25},
        "teacher": {
            "builder": "teachers.vgg:vgg16_bn",
            "settings": {"pool": 1, "classifier_width": 16, "width": 0.1},
            "image_size": 32,
            "train": {"epochs": 3, "batch_size": 8},
        },
        "candidates": {
            "shufflenet_v2_x0_5": [
                {
                    "distill": {
                        "student": "students.shufflenet:shufflenet_v2_x0_5",
                        "image_size": 32,
                        "views": 2,
                        "train": {"epochs": 3, "batch_size": 8},
                    }
                }
            ]
        },
        "measure": {
            "threads": 1,
            "processes": 2,
            "rounds": 5,
            "batches": [2],
            "throughput_batch": 3,
            "throughput_rounds": 3,
        },
        "budget": {"speedup": 1, "max_accuracy_drop": 1.0},
    }


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe (a dict, or YAML text) and gives its path."""

    def write(recipe: dict[str, Any] | str, name: str = "tiny.yaml") -> Path:
        path = tmp_path / name
        text = recipe if isinstance(recipe, str) else yaml.safe_dump(recipe)
        path.write_text(text, encoding="utf-8")
        return path

    return write
