"""What a cascade is judged on, none of its stages was trained on."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from compress.cascade.unseen import refuse_seen
from compress.cli import app
from compress.data.dataset import Dataset
from compress.data.keypoints import PointColumns
from compress.data.layouts import read_folder
from compress.data.split import draw_split, set_aside
from compress.utils.errors import UserError
from teachers.whale_frames import frames, head_crops

COUNT = 40
TIP = PointColumns.of(["tip"])


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Photographs of four kinds, each with a point; nothing says how they are split."""
    root = tmp_path / "photographs"
    (root / "imgs").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["Image,kind", *(f"{i}.png,{'abcd'[i % 4]}" for i in range(COUNT))]
    points = ["Image,tip_x,tip_y", *(f"{i}.png,{i % 16},{i % 12}" for i in range(COUNT))]
    for i in range(COUNT):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "imgs" / f"{i}.png")
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    (root / "points.csv").write_text("\n".join(points) + "\n")
    return root


def named(root: Path) -> Dataset:
    return draw_split(read_folder(root), 0.2, 0)


def pointed(root: Path) -> Dataset:
    return draw_split(read_folder(root / "points.csv", points=TIP), 0.2, 0)


def seen(judged: Dataset, trained: Dataset) -> list[str]:
    """By their paths, which in both are the same."""
    own = {judged.images[i].path for i in judged.indices("validation")}
    return sorted(own & {trained.images[i].path for i in trained.indices("train", "tune")})


@pytest.mark.parametrize("copied", [False, True], ids=["in one folder", "in a copy"])
def test_what_a_stage_trains_on_is_refused(photographs: Path, copied: bool) -> None:
    place = photographs
    if copied:
        place = photographs.with_name("copy")
        shutil.copytree(photographs, place)
    judged, trained = named(photographs), pointed(place)
    number = len(seen(judged, trained))
    assert 0 < number < len(judged.indices("validation")) == 8
    said = rf"stages\.finder: its recipe trains on {number} of the 8 images .*put a split\.csv"
    for each in (trained, set_aside(trained, 0.5, 0)):
        with pytest.raises(UserError, match=said):
            refuse_seen(judged, "finder", each)
    refuse_seen(judged, "namer", named(place))
    for root in (photographs, place):
        lines = [f"{i}.png,{'train' if i % 4 else 'validation'}" for i in range(COUNT)]
        (root / "split.csv").write_text("\n".join(["Image,split", *lines]) + "\n")
    refuse_seen(
        draw_split(read_folder(photographs), 0.2, 0, to_train_on=False), "x", pointed(place)
    )


def test_crops_that_a_builder_makes_keep_the_split_of_their_photographs(tmp_path: Path) -> None:
    settings = {"individuals": 3, "pictures": 24, "width": 160, "height": 107}
    for name in ("own", "other"):
        frames(tmp_path / name, **settings)
    head_crops(tmp_path / "crops", source=tmp_path / "own", size=32)
    judged = read_folder(tmp_path / "own")
    for name in ("own", "other", "crops"):
        trained = read_folder(tmp_path / name)
        assert len(judged.indices("validation")) and len(trained.indices("train"))
        refuse_seen(judged, name, trained)


def test_it_is_said_before_anything_is_trained(photographs: Path, tmp_path: Path) -> None:
    network: dict[str, Any] = {
        "version": 1,
        "device": "cpu",
        "data": {"path": "photographs/points.csv", "points": {"tip": ["tip_x", "tip_y"]}},
        "teacher": {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": {"epochs": 1}},
        "candidates": {"int8": [{"quantize": {}}]},
    }
    names = network | {"data": {"path": "photographs"}}
    cascade = {
        "version": 1,
        "name": "both",
        "data": {"path": "photographs"},
        "stages": {"namer": {"recipe": "names.yaml"}, "finder": {"recipe": "points.yaml"}},
        "paths": [["finder", "namer"]],
    }
    for name, recipe in {"points": network, "names": names, "both": cascade}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    arguments = ["run", str(tmp_path / "both.yaml"), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UserError), refused.output
    assert str(refused.exception).startswith("stages.finder: its recipe trains on ")
    stages = {path.name.partition("-")[0] for path in (tmp_path / "out/runs/stages").iterdir()}
    assert stages == {"data"}
