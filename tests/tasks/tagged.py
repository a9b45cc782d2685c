"""Tiny images of which several things may be true at once."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("bar", "dot", "red", "absent")  # no image has the last


def tagged(root: Path, count: int = 48, unlabelled: int = 6, unknown: float = 0.1) -> Path:
    """`root/imgs/*.png`, 32 x 32, and `root/labels.csv`: a column of 0, 1 and nothing a label.

    A white bar above, a white dot below, a red cast, each in half of the images. Further images are
    in no row.
    """
    rng = np.random.default_rng(0)
    (root / "imgs").mkdir(parents=True)
    rows: list[list[object]] = []
    for i in range(count + unlabelled):
        bar, dot, red = has = rng.random(3) < 0.5
        image = rng.integers(0, 90, (32, 32, 3))
        if bar:
            image[6:10, 4:28] = 230
        if dot:
            image[20:26, 13:19] = 230
        if red:
            image[..., 0] += 100
        name = f"{i:02d}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "imgs" / name)
        cells = [int(x) if rng.random() >= unknown else "" for x in has]
        if i < count:
            rows.append([name, f"taken in {i % 7}", *cells, 0])
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["Image", "where", *LABELS], *rows])
    return root
