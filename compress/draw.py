"""A picture with points or a box drawn in, to be looked at."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from compress.data.pictures import Point
from compress.files import atomic
from compress.input_spec import BOX

SIDE = 1600  # pixels that the longer side of the drawing has at most
COLOURS = ("#D55E00", "#56B4E9", "#009E73", "#E69F00", "#CC79A7")  # Okabe and Ito's


def draw_points(picture: Path, points: Mapping[str, Point], out: Path) -> None:
    """Writes a JPEG of the upright picture with a ring and a name at each point, or with the box.

    Args:
        points: x, y in pixels of the upright picture by name.
    """
    with Image.open(picture) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    factor = min(1.0, SIDE / max(image.size))
    if factor < 1:
        image = image.resize((round(factor * image.width), round(factor * image.height)))
    canvas = ImageDraw.Draw(image)
    radius = max(3.0, max(image.size) / 150)
    line = max(1, round(radius / 3))
    scaled = {name: (factor * x, factor * y) for name, (x, y) in points.items()}
    if tuple(scaled) == BOX:
        (left, top), (right, bottom) = scaled.values()
        corners = [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
        canvas.rectangle(corners, outline=COLOURS[0], width=line)
    else:
        for number, (name, (x, y)) in enumerate(scaled.items()):
            colour = COLOURS[number % len(COLOURS)]
            ring = [x - radius, y - radius, x + radius, y + radius]
            canvas.ellipse(ring, outline=colour, width=line)
            canvas.text((x + 1.5 * radius, y), name, fill=colour, anchor="lm")
    with atomic(out) as temporary:
        image.save(temporary, "JPEG", quality=90)
