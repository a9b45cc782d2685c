"""A photograph in memory: of a large JPEG no more pixels than what is looked at needs.

JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which takes less time, as does all that is cut
out of it. Needs no torch: an exported cascade's script is made of this very text, too.
"""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from compress.cascade.views import View
from compress.data.input_spec import InputSpec, is_sideways, upright_rgb
from compress.utils.errors import UserError

Size = tuple[int, int]  # width, height
LARGE_PIXELS = 1_000_000  # at 640 x 427 an eighth of the size would save 0.2 ms, and detail
ENOUGH = 2  # pixels along a side for one of a network's input; what training has (`load_image`)


@dataclass(frozen=True)
class Photograph:
    """What was decoded of an image file, upright, in RGB."""

    image: Image.Image
    size: Size  # of the upright photograph in pixels: the image's own, or more

    def on_image(self, view: View) -> View:
        """Bring a view of the photograph to the pixels that were decoded."""
        (width, height), (across, down) = self.image.size, self.size
        return view.scaled(width / across, height / down)

    def has_enough_for(self, view: View, spec: InputSpec) -> bool:
        """Whether a network sees all that it could see of the photograph."""
        return self.image.size == self.size or times_enough(self.on_image(view), spec) >= 1


def times_enough(view: View, spec: InputSpec) -> float:
    """Return how many times as many pixels a view has along a side as are enough."""
    across, down = math.hypot(view.a, view.d), math.hypot(view.b, view.e)
    return min(across / spec.width, down / spec.height) / ENOUGH


def decoded(photograph: bytes, times: Callable[[Size], float] = lambda size: 1) -> Photograph:
    """Decode the bytes of an image file.

    Args:
        times: of an upright photograph's size, how many times as small it may be decoded; large
            JPEGs are, by a power of two.

    Raises:
        UserError: not an image, truncated, or empty.
    """
    try:
        with warnings.catch_warnings():
            # Photographs of over 89 megapixels are what somebody photographed, not an attack;
            # twice that Pillow refuses by itself.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(photograph)) as file:
                size = _drafted(file, times)
                image = upright_rgb(file)
                return Photograph(image, size or image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The photograph cannot be read: {error}") from error


def _drafted(file: Image.Image, times: Callable[[Size], float]) -> Size | None:
    """Have an opened file decoded smaller, if it is a large JPEG; return its upright size.

    None where it stays as large as it is.
    """
    if file.format not in ("JPEG", "MPO") or math.prod(file.size) < LARGE_PIXELS:
        return None
    width, height = file.size
    size = (height, width) if is_sideways(file) else (width, height)
    if (smaller := times(size)) < 2:
        return None
    asked = math.ceil(width / smaller), math.ceil(height / smaller)
    return size if file.draft(None, asked) else None
