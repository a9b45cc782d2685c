"""Small images for the report: each image, and over it what a method says of a network."""

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from compress.results.schema import SaliencyMethod
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Task

IMAGES = 8
SIDE = 120  # pixels of the longer side, at most
DRAWN_SIDE = 480  # the same of an answer drawn into its image: it may be a sheet of several
QUALITY = 80  # of JPEG
HEAT = np.array([255, 190, 0])  # amber: stands out from sea, skin and sky
BOX = (255, 255, 255)


def gallery(
    images: np.ndarray, maps: Mapping[SaliencyMethod, np.ndarray], boxes: np.ndarray
) -> dict[str, list[str]]:
    """JPEGs in base64, one for each of the first images: "image", and by method the overlays.

    Args:
        images: uint8 (n, height, width, channels), RGB or grey.
        maps: by method (n, height, width).
        boxes: (n, 4), left, top, right, bottom in fractions, drawn into the images; or none,
            (0, 4).
    """
    images = np.broadcast_to(images[:IMAGES], (*images[:IMAGES].shape[:3], 3))  # grey: in RGB
    layers: dict[str, Sequence[np.ndarray]] = {"picture": list(images)}
    for method, found in maps.items():
        layers[method] = [overlay(p, m) for p, m in zip(images, found, strict=False)]
    return {
        name: [_thumbnail(image, boxes[i : i + 1]) for i, image in enumerate(layer)]
        for name, layer in layers.items()
    }


def drawn_answers(task: Task[Any], outputs: Outputs, files: Sequence[Path]) -> dict[str, list[str]]:
    """JPEGs in base64, one for each image: "answer", as `compress predict --draw`.

    Args:
        outputs: of these files, in their order.
    """
    shown: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.jpg"
        for file, answer in zip(files, task.answers(outputs, files), strict=True):
            task.draw(file, answer, out)
            with Image.open(out) as sheet:
                sheet.thumbnail((DRAWN_SIDE, DRAWN_SIDE))
                shown.append(_packed(sheet))
    return {"answer": shown}


def overlay(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3): the darkened image, glowing where the map is high."""
    top = float(saliency.max())
    heat = (saliency / top if top > 0 else saliency)[..., None]
    return np.asarray(np.rint(0.6 * image * (1 - heat) + HEAT * heat).astype(np.uint8))


def _thumbnail(image: np.ndarray, boxes: np.ndarray) -> str:
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))
    pen = ImageDraw.Draw(small)
    for box in boxes.clip(0, 1) * np.tile(np.subtract(small.size, 1), 2):
        pen.rectangle(tuple(box), outline=BOX)
    return _packed(small)


def _packed(image: Image.Image) -> str:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=QUALITY)
    return base64.b64encode(packed.getvalue()).decode("ascii")
