"""The photograph as the cascade saw it, and beside it what its later networks looked at."""

from PIL import Image, ImageDraw, ImageFont

from compress.pipeline.cascade import Cascade, Found
from compress.pipeline.geometry import Point, cut
from compress.pipeline.judge import CORNERS

LONGER_SIDE = 1600  # pixels; a smaller photograph stays as it is
ORANGE, BLUE, INK = (230, 159, 0), (86, 180, 233), (20, 20, 20)


def drawn(photograph: Image.Image, found: Found, cascade: Cascade, caption: str) -> Image.Image:
    """A new picture: on the left the photograph with what was found, on the right each crop."""
    scale = min(1.0, LONGER_SIDE / max(photograph.size))
    size = (max(1, round(photograph.width * scale)), max(1, round(photograph.height * scale)))
    left = photograph.resize(size, Image.Resampling.BILINEAR)
    line = max(2, max(size) // 400)
    _mark(ImageDraw.Draw(left), found, scale, line)
    crops = _crops(photograph, found, cascade, side=max(96, size[1] // 2))
    letters = max(12, size[1] // 30)
    band = 2 * letters
    width = size[0] + max((crop.width for crop in crops), default=0)
    height = max(size[1], sum(crop.height for crop in crops)) + band
    page = Image.new("RGB", (width, height), INK)
    page.paste(left, (0, band))
    top = band
    for crop in crops:
        page.paste(crop, (size[0], top))
        top += crop.height
    ImageDraw.Draw(page).text(
        (band // 4, band // 4), caption, (255, 255, 255), ImageFont.load_default(letters)
    )
    return page


def _mark(pen: ImageDraw.ImageDraw, found: Found, scale: float, line: int) -> None:
    points = {name: (x * scale, y * scale) for name, (x, y) in found.points.items()}
    if all(name in points for name in CORNERS):
        (left, top), (right, bottom) = (points.pop(name) for name in CORNERS)
        corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        pen.rectangle(corners, outline=ORANGE, width=line)
    for name, point in points.items():
        pen.ellipse(_around(point, 3 * line), outline=BLUE, width=line)
        pen.text((point[0] + 4 * line, point[1]), name, BLUE)


def _around(point: Point, radius: float) -> tuple[float, float, float, float]:
    return point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius


def _crops(photograph: Image.Image, found: Found, cascade: Cascade, side: int) -> list[Image.Image]:
    """What each network looked at that did not look at the whole photograph."""
    shown = []
    for network in cascade.networks:
        if network.stage.look.needs:
            width = round(side * network.spec.width / network.spec.height)
            pixels = cut(photograph, found.views[network.stage.name], width, side)
            shown.append(Image.fromarray(pixels))
    return shown
