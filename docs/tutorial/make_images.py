"""Draws images of road signs: class folders below train/ and validation/, some unlabelled ones.

python docs/tutorial/make_images.py FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TRAIN, VALIDATION, UNLABELLED = 100, 40, 20  # images of each class
SIZE, FINE = 48, 4  # pixels; drawn FINE times larger, then scaled down
RED, WHITE, BLACK = "#c1121c", "#f4f4f4", "#141414"

Draw = Callable[[ImageDraw.ImageDraw, float, float], None]  # with the centre and the radius


def circle(draw: ImageDraw.ImageDraw, centre: float, radius: float, colour: str) -> None:
    draw.ellipse([centre - radius, centre - radius, centre + radius, centre + radius], colour)


def polygon(
    draw: ImageDraw.ImageDraw, centre: float, radius: float, corners: int, turn: float, colour: str
) -> None:
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    draw.polygon(
        [(centre + radius * np.sin(a), centre - radius * np.cos(a)) for a in angles], colour
    )


def write(draw: ImageDraw.ImageDraw, centre: float, size: float, text: str, colour: str) -> None:
    draw.text((centre, centre), text, colour, ImageFont.load_default(size), anchor="mm")


def limit(number: int) -> Draw:
    def sign(draw: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
        circle(draw, centre, radius, RED)
        circle(draw, centre, 0.78 * radius, WHITE)
        write(draw, centre, radius, str(number), BLACK)

    return sign


def bar(draw: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
    long, high = 0.65 * radius, 0.18 * radius
    draw.rectangle([centre - long, centre - high, centre + long, centre + high], WHITE)


def stop(draw: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
    polygon(draw, centre, radius, 8, np.pi / 8, RED)
    write(draw, centre, 0.7 * radius, "STOP", WHITE)


def no_entry(draw: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
    circle(draw, centre, radius, RED)
    bar(draw, centre, radius)


def give_way(draw: ImageDraw.ImageDraw, centre: float, radius: float) -> None:
    polygon(draw, centre, radius, 3, np.pi, RED)
    polygon(draw, centre, 0.6 * radius, 3, np.pi, WHITE)


SIGNS: dict[str, Draw] = {
    "give_way": give_way,
    "limit_30": limit(30),
    "limit_50": limit(50),
    "limit_80": limit(80),
    "no_entry": no_entry,
    "stop": stop,
}


def image(sign: Draw, rng: np.random.Generator) -> Image.Image:
    """A sign somewhere before a blurred background: turned, soiled, too dark or too bright."""
    grey = rng.integers(30, 200, (4, 4, 1))
    background = (grey + rng.integers(-30, 30, (4, 4, 3))).clip(0, 255).astype(np.uint8)
    scene = Image.fromarray(background).resize((FINE * SIZE,) * 2, Image.Resampling.BICUBIC)
    plate = Image.new("RGBA", scene.size)
    sign(ImageDraw.Draw(plate), FINE * SIZE / 2, FINE * SIZE * rng.uniform(0.25, 0.45))
    shift = tuple(rng.uniform(-0.1, 0.1, 2) * FINE * SIZE)
    plate = plate.rotate(rng.normal(0, 8), Image.Resampling.BICUBIC, translate=shift)
    scene.paste(plate, (0, 0), plate)
    scene = scene.filter(ImageFilter.GaussianBlur(FINE * rng.uniform(0, 0.8)))
    pixels = np.asarray(scene.resize((SIZE, SIZE), Image.Resampling.BOX)).astype(np.float64)
    pixels = pixels * rng.uniform(0.5, 1.2) + rng.normal(0, rng.uniform(3, 16), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, sign in SIGNS.items():
        counts = {
            f"train/{name}": TRAIN,
            f"validation/{name}": VALIDATION,
            "unlabelled": UNLABELLED,
        }
        for place, count in counts.items():
            (folder / place).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                drawn = image(sign, rng)
                file = f"{name}_{number:02d}.png" if place == "unlabelled" else f"{number:02d}.png"
                drawn.save(folder / place / file)
    print(f"{len(SIGNS)} signs, {len(list(folder.rglob('*.png')))} images in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
