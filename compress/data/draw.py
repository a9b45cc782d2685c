"""An image with points or a box drawn in, to be looked at."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from compress.data.dataset import Point
from compress.data.input_spec import BOX, upright_rgb
from compress.utils.files import atomic

SIDE = 1600  # pixels that the longer side of the drawing has at most
COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#E69F00", "#CC79A7")  # Okabe and Ito's


def marked(image: Image.Image, points: Mapping[str, Point]) -> Image.Image:
    """A copy, no larger than SIDE, with the box, and a ring and a name at each other point.

    Args:
        points: x, y in pixels of the image by name.
    """
    factor = min(1.0, SIDE / max(image.size))
    size = (max(1, round(factor * image.width)), max(1, round(factor * image.height)))
    image = image.resize(size) if factor < 1 else image.copy()
    canvas = ImageDraw.Draw(image)
    radius = max(3.0, max(image.size) / 150)
    line = max(1, round(radius / 3))
    scaled = {name: (factor * x, factor * y) for name, (x, y) in points.items()}
    if all(name in scaled for name in BOX):
        (left, top), (right, bottom) = (scaled.pop(name) for name in BOX)
        corners = [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
        canvas.rectangle(corners, outline=COLOURS[0], width=line)
    for number, (name, (x, y)) in enumerate(scaled.items(), 1):
        colour = COLOURS[number % len(COLOURS)]
        ring = [x - radius, y - radius, x + radius, y + radius]
        canvas.ellipse(ring, outline=colour, width=line)
        canvas.text((x + 1.5 * radius, y), name, fill=colour, anchor="lm")
    return image


def draw_points(image: Path, points: Mapping[str, Point], out: Path) -> None:
    """Writes a JPEG of the upright image with its points marked."""
    with Image.open(image) as file:
        drawn = marked(upright_rgb(file), points)
    save_jpeg(drawn, out)


def save_jpeg(image: Image.Image, out: Path) -> None:
    with atomic(out) as temporary:
        image.save(temporary, "JPEG", quality=90)
