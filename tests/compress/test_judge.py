"""Judging cascades: against brute force on pixels, and on photographs with known truth."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.data.pictures import DataSet, Picture
from compress.errors import UserError
from compress.pipeline.cascade import Cascade, decode
from compress.pipeline.draw import drawn
from compress.pipeline.judge import (
    angle_between_degrees,
    intersection_over_union,
    judge,
    verdict,
    write_csv,
)
from tests.compress.test_cascade import folder as folder
from tests.compress.test_cascade import photograph

whole_numbers = st.integers(0, 20)
boxes = st.tuples(st.tuples(whole_numbers, whole_numbers), st.tuples(whole_numbers, whole_numbers))


@given(boxes, boxes)
def test_intersection_over_union_counts_pixels(one, other):
    def mask(box):
        pixels = np.zeros((20, 20), bool)
        pixels[box[0][1] : box[1][1], box[0][0] : box[1][0]] = True
        return pixels

    a, b = mask(one), mask(other)
    together = (a | b).sum()
    expected = (a & b).sum() / together if together else 0.0
    assert intersection_over_union(one, other) == pytest.approx(expected)


@given(st.floats(-7, 7), st.floats(-7, 7), st.floats(0.1, 50), st.floats(0.1, 50))
def test_the_angle_is_the_smaller_one(a, b, length, other_length):
    one = ((length * math.cos(a), length * math.sin(a)), (0.0, 0.0))
    other = ((3 + other_length * math.cos(b), 4 + other_length * math.sin(b)), (3.0, 4.0))
    turn = abs(math.degrees(a - b)) % 360
    assert angle_between_degrees(one, other) == pytest.approx(min(turn, 360 - turn), abs=1e-5)


@pytest.fixture
def data(tmp_path):
    pictures = []
    for number, side in enumerate(["red", "blue", "red"]):
        angle = 0.8 + 2 * number
        middle, arm = np.array([400.0, 300.0]), 50 * np.array([math.cos(angle), math.sin(angle)])
        red, blue = middle + arm, middle - arm
        (tmp_path / f"{number}.png").write_bytes(photograph(tuple(red), tuple(blue), side))
        truth = {"red_x": red[0], "red_y": red[1], "blue_x": blue[0], "blue_y": blue[1]}
        truth |= {"x": 300.0, "y": 220.0, "width": 200.0, "height": 160.0}
        pictures.append(Picture(f"{number}.png", f"{side} side", "validation", truth))
    pictures.append(Picture("0.png", "somebody else", "validation", {}))
    return DataSet(tmp_path, tuple(pictures))


def test_every_photograph_is_judged_by_what_is_annotated(folder, data, tmp_path):
    cascade = Cascade.load(folder, threads=1)
    judged = judge(cascade, data, range(4))
    assert [x.rank for x in judged] == [1, 1, 1, None]
    assert all(x.distance < 0.05 and x.angle_error_degrees < 3 for x in judged[:3])
    assert all(x.centre_inside for x in judged[:3])
    assert judged[3].iou is judged[3].distance is judged[3].angle_error_degrees is None
    found = cascade.find((tmp_path / "0.png").read_bytes())
    box = found.points["top_left"], found.points["bottom_right"]
    assert judged[0].iou == pytest.approx(intersection_over_union(box, ((300, 220), (500, 380))))

    said = verdict(judged, names_things=True)
    assert said.pictures == 4
    assert said.top1.value == said.top5 == 0.75  # a name that it does not know is a wrong answer
    assert said.named == 1
    assert said.centres_inside == 1
    assert said.mean_iou == pytest.approx(np.mean([x.iou for x in judged[:3]]))
    assert said.p50_s <= said.p95_s

    write_csv(judged, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["0.png", "1.png", "2.png", "0.png"]
    assert rows[3]["iou"] == "" and float(rows[0]["iou"]) == judged[0].iou


def test_labels_that_the_pipeline_never_gives_are_said(folder, data):
    strangers = DataSet(data.root, (Picture("0.png", "a", None), Picture("1.png", "b", None)))
    with pytest.raises(UserError, match="None of the 2 labels"):
        judge(Cascade.load(folder, threads=1), strangers, range(2))


def test_the_drawing_marks_the_box_and_shows_the_crops(folder, data):
    cascade = Cascade.load(folder, threads=1)
    content = (data.root / "0.png").read_bytes()
    found, picture = cascade.find(content), decode(content)
    page = np.asarray(drawn(picture, found, cascade, "red side"))
    assert page.shape[1] > picture.width  # two crops stand beside it
    left, top = found.points["top_left"]
    band = page.shape[0] - picture.height
    near = page[band + int(top) - 3 : band + int(top) + 4, int(left) + 20].astype(int)
    assert (np.abs(near - np.array([0xD5, 0x5E, 0])).sum(1) < 30).any()
    tiny = Image.new("RGB", (1, 1))
    assert drawn(tiny, found, cascade, "").width > 1
