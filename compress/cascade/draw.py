"""The photograph as the cascade saw it, and beside it what its later networks looked at."""

from PIL import Image, ImageDraw, ImageFont

from compress.cascade.answer import Found
from compress.cascade.cascade import Cascade
from compress.cascade.views import cut
from compress.data.draw import marked

INK, PAPER = (20, 20, 20), (255, 255, 255)


def drawn(photograph: Image.Image, found: Found, cascade: Cascade, caption: str) -> Image.Image:
    """A new image: on the left the photograph with what was found, on the right each crop."""
    left = marked(photograph, found.points)
    crops = _crops(photograph, found, cascade, side=max(96, left.height // 2))
    letters = max(12, left.height // 30)
    band = 2 * letters
    width = left.width + max((crop.width for crop in crops), default=0)
    height = max(left.height, sum(crop.height for crop in crops)) + band
    page = Image.new("RGB", (width, height), INK)
    page.paste(left, (0, band))
    top = band
    for crop in crops:
        page.paste(crop, (left.width, top))
        top += crop.height
    font = ImageFont.load_default(letters)
    ImageDraw.Draw(page).text((band // 4, band // 4), caption, PAPER, font)
    return page


def _crops(photograph: Image.Image, found: Found, cascade: Cascade, side: int) -> list[Image.Image]:
    """What each network looked at that did not look at the whole photograph."""
    shown = []
    for network in cascade.networks:
        if network.stage.needs:
            width = round(side * network.spec.width / network.spec.height)
            pixels = cut(photograph, found.views[network.stage.name], width, side)
            shown.append(Image.fromarray(pixels))
    return shown
