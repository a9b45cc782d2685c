"""Seeded simple scenes from above: whales in a sea, and what is true of each, as a table of labels.

Several labels are true of an image at once: how many whales there are, whether one is cut off by
the frame, whether the sun glints, how rough the sea is. All come from the scene's own parameters.
Lengths are in shorter sides of the frame, places are x + iy from its upper left corner.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator
Whale = tuple[NDArray[np.complexfloating[Any, Any]], bool]  # its outline; whether it is cut off

LABELS = ("whale", "several_whales", "cut_off", "glint", "choppy", "rough")
WATERS = np.array([[0.17, 0.29, 0.31], [0.21, 0.32, 0.41], [0.10, 0.18, 0.18]])  # RGB in 0..1
SKIN = (40, 36, 38)
CALLOSITY = (190, 184, 172)
FOAM = np.array([0.93, 0.96, 0.97])
SUN = np.array([1.0, 0.97, 0.88])
FINER = 3  # pixels drawn for one of the image, so that edges are smooth
APART = 0.3  # between the middles of two whales, at least
MARGIN = 0.06  # that a whale which is not cut off keeps from the frame, beyond half its length


def scenes(
    folder: Path,
    *,
    pictures: int = 900,
    unlabelled: int = 0,
    size: int = 96,
    unknown: float = 0.05,
    seed: int = 0,
) -> None:
    """Writes imgs/*.jpg, size x size, and train.csv: a column of 0, 1 and nothing for each label.

    Args:
        unlabelled: further images that are in no row.
        unknown: share of the labels that are left empty, as people leave them.
    """
    rng = np.random.default_rng(seed)
    (folder / "imgs").mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    for number in range(pictures + unlabelled):
        image, labels = scene(rng, size)
        name = f"{number:05d}.jpg"
        image.save(folder / "imgs" / name, quality=90)
        cells = ["" if rng.random() < unknown else int(labels[label]) for label in LABELS]
        if number < pictures:
            rows.append([name, *cells])
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["Image", *LABELS], *rows])


def scene(rng: Rng, size: int) -> tuple[Image.Image, dict[str, bool]]:
    """Return an image, size x size, and what is true of it."""
    roughness = int(rng.integers(3))  # 0 calm, 1 choppy, 2 rough
    glints = bool(rng.random() < 0.4)
    whales = _apart(rng, rng.choice(4, p=[0.2, 0.35, 0.3, 0.15]))
    light = rng.uniform(0.8, 1.25)
    sea = _sea(rng, size, roughness)
    image = _with_whales(sea, [outline for outline, _ in whales], rng)
    if glints:
        image = _with_glint(image, rng)
    pixels = (image * light + rng.normal(0, 0.012, image.shape)).clip(0, 1)
    labels = {
        "whale": len(whales) > 0,
        "several_whales": len(whales) > 1,
        "cut_off": any(is_cut for _, is_cut in whales),
        "glint": glints,
        "choppy": roughness == 1,
        "rough": roughness == 2,
    }
    return Image.fromarray((255 * pixels).astype(np.uint8)), labels


def _smooth(rng: Rng, size: int, across: float, along: float) -> Array:
    """Return noise (size, size) of deviation 1 whose bumps are so many pixels across and along."""
    y, x = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]
    kept = np.exp(-2 * np.pi**2 * ((across * y) ** 2 + (along * x) ** 2))
    found = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) * kept).real
    return found / (found.std() + 1e-12)


def _sea(rng: Rng, size: int, roughness: int) -> Array:
    """Return water (size, size, 3) in 0..1, with whitecaps where it is rough."""
    water = WATERS[rng.integers(len(WATERS))] * rng.uniform(0.85, 1.15)
    waves = _smooth(rng, size, size / 60, size / 20)
    swell = 1 + (0.03, 0.10, 0.18)[roughness] * waves[..., None]
    caps = (_smooth(rng, size, size / 90, size / 30) > (9.0, 2.7, 1.9)[roughness])[..., None]
    return np.where(caps, 0.8 * FOAM, water * swell)


def _apart(rng: Rng, count: int) -> list[Whale]:
    """Return so many whales, none upon another."""
    found: list[Whale] = []
    while len(found) < count:
        outline, is_cut = _whale(rng)
        if all(abs(outline.mean() - other.mean()) > APART for other, _ in found):
            found.append((outline, is_cut))
    return found


def _whale(rng: Rng) -> Whale:
    """Return a whale's outline (points,) from its flukes round its head, and whether it is cut off
    by the frame."""
    length, heading = rng.uniform(0.28, 0.42), np.exp(1j * rng.uniform(0, 2 * np.pi))
    is_cut = bool(rng.random() < 0.25)
    room = 0.5 - MARGIN - length / 2
    middle = complex(*rng.uniform(0.5 - room, 0.5 + room, 2))
    if is_cut:  # its middle lies near an edge, across which it heads
        heading = 1j ** rng.integers(4) * np.exp(1j * rng.uniform(-0.4, 0.4))
        edge = 0.5 * 1j ** np.round(np.angle(heading) / (np.pi / 2))
        middle = 0.5 + 0.5j + edge + 1j * edge * rng.uniform(-0.7, 0.7)
        heading *= rng.choice([-1, 1])  # out of it, or into it
    along = np.linspace(-1, 1, 24)
    half = 0.14 * length * np.sqrt(np.clip(1 - along**2, 0, 1)) * (1 + 0.6 * along)
    sides = np.concatenate([along + 2j * half / length, (along - 2j * half / length)[::-1]])
    fluke = np.array([-1.2 - 0.16j, -0.95, -1.2 + 0.16j])
    return middle + heading * length / 2 * np.concatenate([sides, fluke]), is_cut


def _with_whales(sea: Array, outlines: list[Any], rng: Rng) -> Array:
    """Return the sea with whales of these outlines in it; their rims lie under water."""
    side = FINER * len(sea)
    image = Image.fromarray((255 * sea).clip(0, 255).astype(np.uint8))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    under = Image.new("L", (side, side))
    for outline in outlines:
        corners = [(p.real * side, p.imag * side) for p in outline]
        ImageDraw.Draw(under).polygon(corners, fill=int(rng.uniform(190, 245)))
    skin = Image.new("RGB", image.size, SKIN)
    image.paste(skin, mask=under.filter(ImageFilter.GaussianBlur(FINER)))
    brush = ImageDraw.Draw(image)
    for outline in outlines:
        head, middle = outline[24], outline[:48].mean()  # tip, and the middle of its body
        for share in rng.uniform(0.55, 0.9, 4):
            at = (middle + share * (head - middle)) * side
            spread = abs(head - middle) * side * 0.07
            at += complex(*rng.normal(0, spread / 2, 2))
            brush.ellipse(
                (at.real - spread, at.imag - spread, at.real + spread, at.imag + spread), CALLOSITY
            )
    small = image.resize((len(sea), len(sea)), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def _with_glint(image: Array, rng: Rng) -> Array:
    """Return the image with the sun in a part of its waves."""
    size = len(image)
    y, x = np.mgrid[:size, :size] / size
    place, width = rng.uniform(0.15, 0.85, 2), rng.uniform(0.12, 0.25)
    near = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * width**2))
    sparkles = _smooth(rng, size, size / 120, size / 70) > 2.2 - 2.2 * near
    strength = (0.25 * near + 0.75 * near * sparkles)[..., None]
    return image * (1 - strength) + SUN * strength
