"""Judging cascades on photographs with known truth."""

import csv
import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from compress.cascade.answer import decode, ranked_names, told
from compress.cascade.cascade import Cascade
from compress.cascade.draw import drawn
from compress.cascade.evaluate import annotated_points, judge, verdict, write_csv
from compress.data.dataset import Dataset, Sample
from compress.metrics.keypoints import iou
from compress.utils.errors import UserError
from tests.cascade.test_cascade import folder as folder
from tests.cascade.test_cascade import photograph


@pytest.fixture
def data(tmp_path):
    images = []
    for number, side in enumerate(["red", "blue", "red"]):
        angle = 0.8 + 2 * number
        middle, arm = np.array([400.0, 300.0]), 50 * np.array([math.cos(angle), math.sin(angle)])
        red, blue = middle + arm, middle - arm
        (tmp_path / f"{number}.png").write_bytes(photograph(tuple(red), tuple(blue), side))
        truth = {"red_x": red[0], "red_y": red[1], "blue_x": blue[0], "blue_y": blue[1]}
        truth |= {"x": 300.0, "y": 220.0, "width": 200.0, "height": 160.0}
        images.append(Sample(f"{number}.png", f"{side} side", "validation", truth))
    images.append(Sample("0.png", "somebody else", "validation", {}))
    return Dataset(tmp_path, tuple(images))


def test_every_photograph_is_judged_by_what_is_annotated(folder, data, tmp_path):
    cascade = Cascade.load(folder, threads=1)
    judged = judge(cascade, data, range(4))
    assert [x.rank for x in judged] == [1, 1, 1, None]
    assert all(x.distance < 0.05 and x.angle_error_degrees < 3 for x in judged[:3])
    assert all(x.centre_inside for x in judged[:3])
    assert judged[3].iou is judged[3].distance is judged[3].angle_error_degrees is None
    found = cascade.find((tmp_path / "0.png").read_bytes())
    box = np.array([[found.points["top_left"], found.points["bottom_right"]]])
    assert judged[0].iou == pytest.approx(iou(box, np.array([[(300, 220), (500, 380)]]))[0])

    said = verdict(judged, names_things=True)
    assert said.images == 4
    assert said.top1.value == said.top5 == 0.75  # a name that it does not know is a wrong answer
    assert said.named == 1
    assert said.centres_inside == 1
    assert said.mean_iou == pytest.approx(np.mean([x.iou for x in judged[:3]]))
    assert said.p50_s <= said.p95_s

    write_csv(judged, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png", "0.png"]
    assert rows[3]["iou"] == "" and float(rows[0]["iou"]) == judged[0].iou


def test_of_names_that_are_as_probable_the_first_counts(folder, tmp_path):
    """As for single networks: what cannot decide is not right about all that it names."""
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")  # no half of it is the brighter one
    images = tuple(Sample("0.png", f"{side} side", "validation") for side in ("blue", "red"))
    cascade = Cascade.load(folder, threads=1)
    judged = judge(cascade, Dataset(tmp_path, images), range(2))
    assert cascade.classes == ("blue side", "red side")
    assert [x.rank for x in judged] == [1, 2]
    assert [x.named for x in judged] == ["blue side"] * 2
    assert verdict(judged, names_things=True).top1.value == 0.5
    found = cascade.find((tmp_path / "0.png").read_bytes())
    assert [name for _, name in ranked_names(found, cascade.classes, 2)] == [*cascade.classes]
    lines = ["blue side", "   50.0  blue side", "   50.0  red side"]
    assert told(found, cascade.classes, 0.0)[:3] == lines


def test_points_that_are_told_are_those_of_the_annotations(folder, data):
    told = annotated_points(data, [0, 1], ["top_left", "bottom_right"])
    assert told[0] == {"top_left": (300.0, 220.0), "bottom_right": (500.0, 380.0)}
    with pytest.raises(
        UserError, match=r"1 of 4 images have no annotated top_left, 0\.png for one"
    ):
        annotated_points(data, range(4), ["top_left"])

    own = Cascade.load(folder, threads=1)
    pair = own.warped
    behind = Cascade(own.networks[-1:], annotated=pair)
    judged = judge(behind, data, range(3))
    assert [x.rank for x in judged] == [1, 1, 1]
    assert all(x.iou is x.distance is None for x in judged)  # none of it was found
    photograph = (data.root / "0.png").read_bytes()
    with pytest.raises(UserError, match="This cascade finds no"):
        behind.find(photograph)
    truth = annotated_points(data, [0], pair)[0]
    assert behind.find(photograph, truth).points == truth


def test_photographs_whose_names_are_no_text_are_listed(folder, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")  # Latin-1, as archives from other systems leave it
    (tmp_path / name).write_bytes(photograph((450, 330), (390, 300), "red"))
    data = Dataset(tmp_path, (Sample(name, "red side", "validation"),))
    (judged,) = judge(Cascade.load(folder, threads=1), data, range(1))
    assert json.loads(judged.model_dump_json())["image"] == judged.image == "caf\\udce9.png"


def test_labels_that_the_cascade_never_gives_are_said(folder, data):
    strangers = Dataset(data.root, (Sample("0.png", "a", None), Sample("1.png", "b", None)))
    with pytest.raises(UserError, match="None of the 2 labels"):
        judge(Cascade.load(folder, threads=1), strangers, range(2))


def test_the_drawing_marks_the_box_and_shows_the_crops(folder, data):
    cascade = Cascade.load(folder, threads=1)
    content = (data.root / "0.png").read_bytes()
    found, image = cascade.find(content), decode(content)
    page = np.asarray(drawn(image, found, cascade, "red side"))
    assert page.shape[1] > image.width  # two crops stand beside it
    left, top = found.points["top_left"]
    band = page.shape[0] - image.height
    near = page[band + int(top) - 3 : band + int(top) + 4, int(left) + 20].astype(int)
    assert (np.abs(near - np.array([0xD5, 0x5E, 0])).sum(1) < 30).any()
    tiny = Image.new("RGB", (1, 1))
    assert drawn(tiny, found, cascade, "").width > 1
