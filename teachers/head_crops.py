"""What an aligner gets to see: square crops round a head, as loose as a localizer's box is."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from teachers import synthetic_whales

POINTS = ("bonnet_tip_x", "bonnet_tip_y", "blowhead_x", "blowhead_y")


def synthetic(
    folder: Path,
    *,
    size: int = 128,
    margin: float = 0.2,
    shift: float = 0.1,
    seed: int = 0,
    **frames: Any,
) -> None:
    """Crops (size x size JPEG) of synthetic frames: train.csv, train_with_points.csv and imgs/.

    Args:
        margin: of the crop round the head's box on each side, as a fraction of the box's longer
            side; the crop's own side differs by up to as much again.
        shift: of the crop against the box, at most, as a fraction of the crop's side.
        frames: settings of `synthetic_whales.frames`.
    """
    with TemporaryDirectory() as made:
        synthetic_whales.frames(Path(made), seed=seed, **frames)
        crop_heads(Path(made), folder, size, margin, shift, seed)


def crop_heads(
    source: Path, folder: Path, size: int, margin: float, shift: float, seed: int
) -> None:
    """The same from annotated frames in the competition's layout at `source`."""
    rng = np.random.default_rng(seed)
    boxes = {row["Image"]: row for row in _rows(source / "head_boxes.csv")}
    (folder / "imgs").mkdir(parents=True, exist_ok=True)
    labels, points = ["Image,whaleID"], [",".join(("Image", "whaleID", *POINTS))]
    for row in _rows(source / "train_with_points.csv"):
        name, whale = row["Image"], row["whaleID"]
        x, y, width, height = (float(boxes[name][k]) for k in ("x", "y", "width", "height"))
        side = max(width, height) * (1 + 2 * margin * rng.uniform(0.5, 1.5))
        middle = np.array([x + width / 2, y + height / 2]) + side * rng.uniform(-shift, shift, 2)
        left, top = (round(float(m - side / 2)) for m in middle)
        crop = (left, top, left + round(side), top + round(side))
        with Image.open(source / "imgs" / name) as frame:
            cropped = frame.convert("RGB").crop(crop)
        scale = size / cropped.width
        cropped.resize((size, size)).save(folder / "imgs" / name, quality=90)
        places = scale * (np.array([float(row[k]) for k in POINTS]) - [left, top, left, top])
        labels.append(f"{name},{whale}")
        points.append(",".join([name, whale, *(f"{place:.2f}" for place in places)]))
    (folder / "train.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    (folder / "train_with_points.csv").write_text("\n".join(points) + "\n", encoding="utf-8")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
