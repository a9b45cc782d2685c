"""Tiny images that are told in two sentences each, from which the facts can be read back."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"red": (230, 40, 40), "green": (40, 230, 40)}
PLACES = {"left": 2, "right": 18}
FACTS = {"colour": ["red", ["green", "grass colour"]], "place": ["left", "right"]}
WORDINGS = ("a {0} square on the {1}", "on the {1} is a {0} square")
SETTINGS: dict[str, Any] = {
    "steps": 8,
    "grid": 2,
    "facts": FACTS,
    "looks": {"words": ["square"]},
    "doubly_stochastic": 0.0,
}


def squares(root: Path, count: int = 48, unlabelled: int = 4) -> Path:
    """`root/imgs/*.png`, 32 x 32, and `captions.csv`: two rows an image, with its square's box.

    Further images are in no row.
    """
    rng = np.random.default_rng(0)
    (root / "imgs").mkdir(parents=True)
    rows: list[list[object]] = []
    for i in range(count + unlabelled):
        colour, place = rng.choice([*COLOURS]), rng.choice([*PLACES])
        x, y = PLACES[place], int(rng.integers(2, 18))
        image = rng.integers(0, 60, (32, 32, 3))
        image[y : y + 12, x : x + 12] = COLOURS[colour]
        name = f"{i:02d}.png"
        Image.fromarray(image.astype(np.uint8)).save(root / "imgs" / name)
        if i < count:
            rows += [[name, x.format(colour, place), PLACES[place], y, 12, 12] for x in WORDINGS]
    with (root / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        header = ["image", "caption", "x", "y", "width", "height"]
        csv.writer(file).writerows([header, *rows])
    return root
