"""Data for the later networks of the pipeline, cut out of annotated frames.

`frames` makes synthetic ones; `head_crops` and `aligned_heads` cut from any, and the functions that
begin with `synthetic` do both. All keep the split of the frames they were cut from, so that no
network is trained on a whale's image that another one is judged on.

A network is trained on what it will be shown: the aligner on crops around the head's box, the
classifier on heads turned to the pose of a passport photograph. Both are cut by the same functions
that the deployed pipeline uses (compress/cascade/views.py).
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from compress.cascade.cascade import decode
from compress.cascade.views import Point, View, around, brought_to, cut
from compress.data.dataset import Dataset, Sample
from compress.data.layouts import read_folder
from compress.data.tables import read_csv
from teachers import synthetic_whales
from teachers.synthetic_whales import BLOWHEAD_AT, BONNET_AT

POINTS = ("bonnet_tip", "blowhead")
CANONICAL = {
    "bonnet_tip": (BONNET_AT.real, BONNET_AT.imag),
    "blowhead": (BLOWHEAD_AT.real, BLOWHEAD_AT.imag),
}  # in fractions of an aligned head, as in the heads of the competition's community
# How far a head reaches past its two points, in head lengths: behind the blowhead, ahead of the
# bonnet tip, to either side. As the boxes of synthetic frames have it.
BEHIND, AHEAD, BESIDE = 0.3, 0.2, 0.6
QUALITY = 95  # of JPEG
BOXES = ["Image", "x", "y", "width", "height"]  # the columns of head_boxes.csv


def frames(folder: Path, **settings: Any) -> None:
    """Synthetic frames as `teachers.synthetic_whales.frames` makes them, with a split.csv: every
    fourth image of a whale is for validation, a whale's first two are for training.
    """
    synthetic_whales.frames(folder, **settings)
    seen: Counter[str] = Counter()
    rows: list[list[str | None]] = []
    for row in read_csv(folder / "train.csv").rows:
        validation = seen[row["whaleID"]] % 4 == 2
        rows.append([row["Image"], "validation" if validation else "train"])
        seen[row["whaleID"]] += 1
    _write_table(folder / "split.csv", ["Image", "split"], rows)


def synthetic_head_crops(
    folder: Path, *, margin: float = 0.25, size: int = 256, **settings: Any
) -> None:
    """`head_crops` of synthetic frames; `settings` are those of the frames."""
    with TemporaryDirectory() as source:
        frames(Path(source), **settings)
        head_crops(folder, source=Path(source), margin=margin, size=size)


def synthetic_aligned_heads(folder: Path, *, size: int = 224, **settings: Any) -> None:
    """`aligned_heads` of synthetic frames."""
    with TemporaryDirectory() as source:
        frames(Path(source), **settings)
        aligned_heads(folder, source=Path(source), size=size)


def head_crops(folder: Path, *, source: Path, margin: float = 0.25, size: int = 256) -> None:
    """Writes a crop around each annotated head (size x size): train.csv, split.csv where `source`
    has one, points.csv with both points and head_boxes.csv in pixels of the crop, imgs/.

    Args:
        source: frames with train.csv, head_boxes.csv and train_with_points.csv.
        margin: added on each side, as a share of the box's longer side; the localizer's errors
            and the augmentation's shifts must leave the head in the image.
    """
    data = read_folder(source)
    rows: list[list[str | None]] = []
    boxes: list[list[str | None]] = []
    for name, image in _annotated(data):
        view = around(_box(image), margin, 1.0)
        _write(folder / "imgs" / name, data.root / image.path, view, size)
        points = [view.to_view(_point(image, point)) for point in POINTS]
        rows.append([name, *(f"{size * x:.2f}" for point in points for x in point)])
        (left, top), (right, bottom) = map(view.to_view, _box(image))
        box = (left, top, right - left, bottom - top)
        boxes.append([name, *(f"{size * x:.2f}" for x in box)])
    header = ["Image", *(f"{point}_{axis}" for point in POINTS for axis in "xy")]
    _write_table(folder / "points.csv", header, rows)
    _write_table(folder / "head_boxes.csv", BOXES, boxes)
    _write_labels(folder, data)


def aligned_heads(folder: Path, *, source: Path, size: int = 224) -> None:
    """Writes each annotated head in the pose of a passport photograph (size x size): train.csv,
    split.csv where `source` has one, head_boxes.csv in pixels of the crop, imgs/.

    The box is the head's own in that pose, the same in every crop. A frame's upright box, turned
    with the head, would no longer fit it: it would cover 95 % of the crop, in half of them all.
    """
    data = read_folder(source)
    box = [f"{size * x:.2f}" for x in aligned_box()]
    boxes: list[list[str | None]] = []
    for name, image in _annotated(data):
        found = [_point(image, point) for point in POINTS]
        view = brought_to(found, [CANONICAL[point] for point in POINTS], 1.0)
        _write(folder / "imgs" / name, data.root / image.path, view, size)
        boxes.append([name, *box])
    _write_table(folder / "head_boxes.csv", BOXES, boxes)
    _write_labels(folder, data)


def aligned_box() -> tuple[float, float, float, float]:
    """x, y, width, height of the head in an aligned head, in fractions of its side."""
    (tip, middle), (blowhead, _) = (CANONICAL[point] for point in POINTS)
    length = tip - blowhead
    return (
        blowhead - BEHIND * length,
        middle - BESIDE * length,
        (BEHIND + 1 + AHEAD) * length,
        2 * BESIDE * length,
    )


def _annotated(data: Dataset) -> Iterator[tuple[str, Sample]]:
    """Name of the file to write, and the image, of each that has label, box and points."""
    needed = {"x", "y", "width", "height", *(f"{n}_{axis}" for n in POINTS for axis in "xy")}
    for image in data.images:
        if image.label is not None and needed <= image.annotations.keys():
            yield Path(image.path).with_suffix(".jpg").name, image


def _box(image: Sample) -> list[Point]:
    a: Mapping[str, float] = image.annotations
    return [(a["x"], a["y"]), (a["x"] + a["width"], a["y"] + a["height"])]


def _point(image: Sample, name: str) -> Point:
    return image.annotations[f"{name}_x"], image.annotations[f"{name}_y"]


def _write(path: Path, photograph: Path, view: View, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = cut(decode(photograph.read_bytes()), view, size, size)
    Image.fromarray(shown).save(path, quality=QUALITY)


def _write_labels(folder: Path, data: Dataset) -> None:
    chosen = list(_annotated(data))
    _write_table(folder / "train.csv", ["Image", "whaleID"], [[n, p.label] for n, p in chosen])
    if all(image.split is not None for _, image in chosen):
        _write_table(folder / "split.csv", ["Image", "split"], [[n, p.split] for n, p in chosen])


def _write_table(path: Path, header: list[str], rows: list[list[str | None]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
