"""Where the pixels of an image come to lie in a network's input, and back.

In an image x and y are pixels of the upright image (its EXIF orientation applied), from its left
and upper edge: the first pixel reaches from 0 to 1. In an input they are fractions of its width and
height; a point that was cut off lies outside [0, 1]. As `load_image` does it, to within half an
input pixel (one in a letterbox, whose edges lie on whole pixels): a JPEG may be decoded at a part
of its size, which rounds its width and height up.
"""

from pathlib import Path

import numpy as np

from compress.data.input_spec import InputSpec, is_sideways, turn_upright


def to_input(points: np.ndarray, sizes: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Pixels (n, points, 2) of images with `sizes` (n, 2: width, height) as input fractions."""
    corner, extent = kept(sizes, spec)
    return (points - corner) / extent


def to_image(fractions: np.ndarray, sizes: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The inverse of `to_input`."""
    corner, extent = kept(sizes, spec)
    return corner + fractions * extent


def kept(sizes: np.ndarray, spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return what of each image fills the input: upper left corner and extent, pixels (n, 1, 2).

    A letterbox shows more than the image: the corner is then outside.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    extent, aspect = sizes, spec.width / spec.height
    if spec.fit == "crop":
        extent = np.minimum(sizes, sizes[:, ::-1] * [aspect, 1 / aspect])
    elif spec.fit == "letterbox":
        extent = np.maximum(sizes, sizes[:, ::-1] * [aspect, 1 / aspect])
    return ((sizes - extent) / 2)[:, None], extent[:, None]


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of an image file as it is seen, read without decoding it.

    Raises:
        OSError: no image.
    """
    from PIL import Image

    with Image.open(path) as file:
        if file.format == "TIFF":  # newer Pillow turns these itself, older does not
            turn_upright(file)
            return file.size
        width, height = file.size
        return (height, width) if is_sideways(file) else (width, height)
