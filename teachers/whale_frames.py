"""Data for the later networks of the pipeline, cut out of annotated frames.

A network is trained on what it will be shown: the aligner on crops around the head's box, the
classifier on heads turned to the pose of a passport photograph. Both are cut by the same functions
that the deployed pipeline uses (compress/pipeline/geometry.py).
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from compress.data.layouts import read_folder
from compress.data.pictures import DataSet, Picture
from compress.pipeline.cascade import decode
from compress.pipeline.geometry import Point, View, around, brought_to, cut
from teachers.synthetic_whales import BLOWHEAD_AT, BONNET_AT

POINTS = ("bonnet_tip", "blowhead")
CANONICAL = {
    "bonnet_tip": (BONNET_AT.real, BONNET_AT.imag),
    "blowhead": (BLOWHEAD_AT.real, BLOWHEAD_AT.imag),
}  # in fractions of an aligned head, as in the heads of the competition's community
QUALITY = 95  # of JPEG


def head_crops(folder: Path, *, source: Path, margin: float = 0.25, size: int = 256) -> None:
    """Writes a crop around each annotated head (size x size): train.csv, split.csv where `source`
    has one, points.csv with both points in pixels of the crop, imgs/.

    Args:
        source: frames with train.csv, head_boxes.csv and train_with_points.csv.
        margin: added on each side, as a share of the box's longer side; the localizer's errors
            and the augmentation's shifts must leave the head in the picture.
    """
    frames = read_folder(source)
    rows = []
    for frame, picture in _annotated(frames):
        view = around(_box(picture), margin, 1.0)
        _write(folder, frames.root / picture.path, frame, view, size)
        points = [view.to_view(_point(picture, name)) for name in POINTS]
        rows.append([frame, *(f"{size * x:.2f}" for point in points for x in point)])
    header = ["Image", *(f"{name}_{axis}" for name in POINTS for axis in "xy")]
    _write_table(folder / "points.csv", header, rows)
    _write_labels(folder, frames)


def aligned_heads(folder: Path, *, source: Path, size: int = 224) -> None:
    """Writes each annotated head in the pose of a passport photograph (size x size): train.csv,
    split.csv where `source` has one, imgs/.
    """
    frames = read_folder(source)
    for frame, picture in _annotated(frames):
        found = [_point(picture, name) for name in POINTS]
        view = brought_to(found, [CANONICAL[name] for name in POINTS], 1.0)
        _write(folder, frames.root / picture.path, frame, view, size)
    _write_labels(folder, frames)


def _annotated(frames: DataSet) -> Iterator[tuple[str, Picture]]:
    """File name and picture of each frame that has a label, a box and both points."""
    needed = {"x", "y", "width", "height", *(f"{n}_{axis}" for n in POINTS for axis in "xy")}
    for picture in frames.pictures:
        if picture.label is not None and needed <= picture.annotations.keys():
            yield Path(picture.path).name, picture


def _box(picture: Picture) -> list[Point]:
    a: Mapping[str, float] = picture.annotations
    return [(a["x"], a["y"]), (a["x"] + a["width"], a["y"] + a["height"])]


def _point(picture: Picture, name: str) -> Point:
    return picture.annotations[f"{name}_x"], picture.annotations[f"{name}_y"]


def _write(folder: Path, photograph: Path, name: str, view: View, size: int) -> None:
    (folder / "imgs").mkdir(parents=True, exist_ok=True)
    shown = cut(decode(photograph.read_bytes()), view, size, size)
    Image.fromarray(shown).save((folder / "imgs" / name).with_suffix(".jpg"), quality=QUALITY)


def _write_labels(folder: Path, frames: DataSet) -> None:
    chosen = list(_annotated(frames))
    _write_table(folder / "train.csv", ["Image", "whaleID"], [[n, p.label] for n, p in chosen])
    if all(picture.split is not None for _, picture in chosen):
        _write_table(folder / "split.csv", ["Image", "split"], [[n, p.split] for n, p in chosen])


def _write_table(path: Path, header: list[str], rows: list[list[str | None]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
