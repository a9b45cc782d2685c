"""Tiny images of things with names and words: coloured squares, some never trained on."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}
PLACES = {"above": 4, "middle": 12, "below": 20}
THINGS = [f"{colour}_{place}" for colour, place in product(COLOURS, PLACES)]
NEW = ("green_middle",)  # no image of it is trained on


def squares(root: Path, each: int = 8, unlabelled: int = 8) -> Path:
    """`root/imgs/*.png`, 32 x 32, `train.csv`, `split.csv` and `text.txt`, whose words are theirs.

    A square of one of three colours at one of three heights, in noise.
    """
    rng = np.random.default_rng(0)
    (root / "imgs").mkdir(parents=True)
    rows, splits = [], []
    for number in range(len(THINGS) * each + unlabelled):
        thing = THINGS[number % len(THINGS)]
        colour, place = thing.split("_")
        image = rng.integers(0, 90, (32, 32, 3))
        left, top = rng.integers(2, 20), PLACES[place] + rng.integers(-1, 2)
        image[top : top + 8, left : left + 8] = COLOURS[colour]
        name = f"{number:03d}.png"
        Image.fromarray(image.astype(np.uint8)).save(root / "imgs" / name)
        if number < len(THINGS) * each:
            held = thing in NEW or number // len(THINGS) >= each - 2
            rows.append([name, thing])
            splits.append([name, "validation" if held else "train"])
    for file, header, lines in (
        ("train.csv", ["Image", "thing"], rows),
        ("split.csv", ["Image", "split"], splits),
    ):
        with (root / file).open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([header, *lines])
    (root / "text.txt").write_text("\n".join(sentences()), encoding="utf-8")
    return root


def sentences() -> list[str]:
    """Return a text in which each thing stands beside what it is like."""
    found = []
    for thing in THINGS:
        colour, place = thing.split("_")
        for frame in ("the {0} is {1}", "we saw {0} in {1} paint", "{1} is {0}", "so {1} a {0}"):
            found += [frame.format(thing, word) for word in (colour, place)]
    return found
