"""Scenes from above that are told in words: how many whales, where they head, what the sea is like.

On top of `teachers.scenes`. Whales of a scene travel together: they share a heading, which is told
by the clock (12 is up), as one tells it from above. Each scene has five captions in other words,
drawn from its own parameters. Some combinations of these are never trained on, so that who has
learnt the sentences by heart is found out.
"""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from teachers import scenes
from teachers.scenes import Rng, Whale

Outline = NDArray[np.complexfloating[Any, Any]]

COUNTS = ("no whale", "one whale", "two whales", "three whales")
SEAS = ("calm", "choppy", "rough")
PLACES = ("on the left", "in the middle", "on the right")
EXACT = np.radians(8)  # that a heading is beside its hour at most
HELD_OUT = 6  # one of so many combinations of number, heading and sea
VALIDATION = 5  # one scene of so many, of the others
HEAD = slice(16, 32)  # of an outline's points: the front third
TIP = 24
WHALES = (
    "{count} {place} with {its_head} towards {hour} in a {sea} sea",
    "in a {sea} sea {count} {swims} {place} {its_head} towards {hour}",
    "{its_head} towards {hour} {count} {swims} {place} in a {sea} sea",
    "a {sea} sea and {count} {place} heading towards {hour}",
    "{count} {place} heading towards {hour} on a {sea} sea",
)
EMPTY = (
    "no whale in a {sea} sea",
    "in a {sea} sea no whale swims",
    "there is no whale in a {sea} sea",
    "a {sea} sea and no whale",
    "no whale on a {sea} sea",
)
GLINT = (("and no glint", "without glint"), ("and sun glint", "with sun glint"))


class Scene(NamedTuple):
    """What a scene shows; places are x + iy in shorter sides of the frame."""

    whales: list[Whale]
    hour: int | None  # 1 to 12, None without a whale
    roughness: int  # 0 calm, 1 choppy, 2 rough
    glint: bool

    @property
    def place(self) -> int | None:
        """Which third of the frame, from the left, one whale is in; of several that is not told."""
        if len(self.whales) != 1:
            return None
        return int(np.clip(3 * self.whales[0][0].mean().real, 0, 2))

    @property
    def held_out(self) -> bool:
        """Whether this number of whales, heading so in such a sea, is never trained on."""
        if self.hour is None:
            return False
        return (len(self.whales) + self.hour + 2 * self.roughness) % HELD_OUT == 0


def captioned_scenes(
    folder: Path,
    *,
    pictures: int = 1500,
    unlabelled: int = 0,
    size: int = 96,
    hours: int = 12,
    seed: int = 0,
) -> None:
    """Writes imgs/*.jpg, size x size, train.csv, split.csv and whales.csv.

    train.csv (Image, caption_1 … caption_5, x, y, width, height) has the box of the head, in
    pixels, where there is one whale whose head is in the frame. whales.csv (a row for each whale)
    has the boxes of whales and of heads, the tip of the head, and the heading in degrees.

    Args:
        unlabelled: further images that are in no row.
        hours: directions that whales may head in: 12, 6, 4, 3 or 2.
    """
    if 12 % hours or hours < 2:
        raise ValueError(f"{hours} directions are not on the hours of a clock: 12, 6, 4, 3 or 2")
    rng = np.random.default_rng([seed, 11])
    (folder / "imgs").mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    splits: list[list[object]] = []
    whales: list[list[object]] = []
    for number in range(pictures + unlabelled):
        scene = draw_scene(rng, hours)
        name = f"{number:05d}.jpg"
        _painted(scene, rng, size).save(folder / "imgs" / name, quality=90)
        if number >= pictures:
            continue
        heads = [box_of(outline[HEAD], size) for outline, _ in scene.whales]
        box = heads[0] if len(heads) == 1 and heads[0] else ("",) * 4
        rows.append([name, *captions(scene, rng), *box])
        held = scene.held_out or number % VALIDATION == 0
        splits.append([name, "validation" if held else "train"])
        whales += [[name, *_row(outline, size)] for outline, _ in scene.whales]
    told = [f"caption_{i}" for i in range(1, len(WHALES) + 1)]
    box_columns = ["x", "y", "width", "height"]
    _write(folder / "train.csv", ["Image", *told, *box_columns], rows)
    _write(folder / "split.csv", ["Image", "split"], splits)
    # The column of images is called otherwise than in train.csv: several rows of one image would
    # be taken for annotations of the same whale.
    columns = [*box_columns, *(f"head_{x}" for x in box_columns), "tip_x", "tip_y", "heading"]
    _write(folder / "whales.csv", ["Photograph", *columns], whales)


def draw_scene(rng: Rng, hours: int = 12) -> Scene:
    """Return a scene."""
    whales = scenes._apart(rng, int(rng.choice(4, p=[0.15, 0.45, 0.25, 0.15])))
    hour = int(rng.integers(hours)) * 12 // hours or 12
    towards = [np.radians(30 * hour - 90) + rng.uniform(-EXACT, EXACT) for _ in whales]
    turned = [
        (_turned(outline, angle), cut)
        for (outline, cut), angle in zip(whales, towards, strict=True)
    ]
    roughness, glint = int(rng.integers(3)), bool(rng.random() < 0.4)
    return Scene(turned, hour if whales else None, roughness, glint)


def captions(scene: Scene, rng: Rng) -> list[str]:
    """Return five wordings, each with all that is told of the scene."""
    count, hour, place = len(scene.whales), scene.hour, scene.place
    told = {
        "count": COUNTS[count],
        "sea": SEAS[scene.roughness],
        "hour": f"{hour} o'clock",
        "place": "" if place is None else PLACES[place],
        "its_head": "its head" if count == 1 else "their heads",
        "swims": "swims" if count == 1 else "swim",
    }
    found = []
    for frame in WHALES if count else EMPTY:
        sentence = f"{frame.format(**told)} {rng.choice(GLINT[scene.glint])}"
        found.append(" ".join(sentence.split()))
    return found


def heading(outline: Outline) -> float:
    """Return where a whale's outline heads, in radians from the right, clockwise."""
    return float(np.angle(outline[TIP] - outline[:48].mean()))


def box_of(points: Outline, size: int) -> tuple[float, ...] | None:
    """Return points' box within the frame: x, y, width, height in pixels; None outside."""
    x, y = (np.clip(part * size, 0, size) for part in (points.real, points.imag))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return tuple(round(float(v), 2) for v in (x.min(), y.min(), np.ptp(x), np.ptp(y)))


def _turned(outline: Outline, towards: float) -> Outline:
    """Return a whale's outline turned about its middle."""
    middle = outline[:48].mean()
    return middle + (outline - middle) * np.exp(1j * (towards - heading(outline)))


def _painted(scene: Scene, rng: Rng, size: int) -> Image.Image:
    """Return a picture of a scene, size x size."""
    light = rng.uniform(0.8, 1.25)
    sea = scenes._sea(rng, size, scene.roughness)
    image = scenes._with_whales(sea, [outline for outline, _ in scene.whales], rng)
    if scene.glint:
        image = scenes._with_glint(image, rng)
    pixels = (image * light + rng.normal(0, 0.012, image.shape)).clip(0, 1)
    return Image.fromarray((255 * pixels).astype(np.uint8))


def _row(outline: Outline, size: int) -> list[object]:
    """Return what whales.csv says of a whale; what lies outside of the frame is empty."""
    boxes = [box_of(points, size) or ("",) * 4 for points in (outline, outline[HEAD])]
    tip = outline[TIP] * size
    degrees = round(float(np.degrees(heading(outline))) % 360, 1)
    return [*boxes[0], *boxes[1], round(tip.real, 2), round(tip.imag, 2), degrees]


def _write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
