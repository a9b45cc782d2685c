"""Where a network looks while it says a word: how much of it lies in a box, and its maps, drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from compress.data.coordinates import to_input, upright_size
from compress.data.dataset import Dataset
from compress.data.draw import COLOURS, save_jpeg
from compress.data.input_spec import InputSpec, read_image
from compress.tasks.captioning.scores import shares_of_cells

TILE = 192  # pixels of a drawn map's longer side
A_ROW = 4  # maps beside each other
LINE = 16  # pixels for a word


def cells_in_boxes(
    data: Dataset,
    indices: np.ndarray,
    columns: Sequence[str],
    spec: InputSpec,
    grid: tuple[int, int],
) -> np.ndarray:
    """Return what share of each cell lies in an image's box, float64 (n, cells); nan without one.

    Args:
        columns: of the box's left, top, width and height in the annotations.
    """
    found = np.full((len(indices), grid[0] * grid[1]), np.nan)
    for row, i in zip(found, indices, strict=True):
        box = [data.images[i].annotations.get(name, np.nan) for name in columns]
        if not np.isfinite(box).all():
            continue
        left, top, width, height = box
        corners = np.array([[[left, top], [left + width, top + height]]])
        size = np.array([upright_size(data.root / data.images[i].path)])
        inside = shares_of_cells(to_input(corners, size, spec).reshape(4), grid)
        row[:] = inside if inside.any() else np.nan
    return found


def on_box(
    maps: np.ndarray, words: Sequence[Sequence[str]], asked: Sequence[str], inside: np.ndarray
) -> np.ndarray:
    """Return what share of the attention lies in the box, and of an even map, float64 (n, 2).

    The mean over the times that one of these words is said; nan where none is, or without a box.

    Args:
        maps: (n, steps, cells), of sum 1 each.
        words: that are said, of each image.
        inside: as `cells_in_boxes` gives it.
    """
    found = np.full((len(maps), 2), np.nan)
    for row, looks, said, cells in zip(found, maps, words, inside, strict=True):
        at = [step for step, word in enumerate(said) if word in asked]
        if at and np.isfinite(cells).all():
            row[:] = float((looks[at] @ cells).mean()), cells.mean()
    return found


def draw_maps(
    file: Path, words: Sequence[str], maps: np.ndarray, spec: InputSpec, out: Path
) -> None:
    """Write a JPEG with the image as the network takes it, once for each word, lit where it looks.

    Args:
        maps: (words, height, width), of sum 1 each.
    """
    shown = Image.fromarray(read_image(file, spec).squeeze()).convert("RGB")
    factor = TILE / max(shown.size)
    size = (round(factor * shown.width), round(factor * shown.height))
    image = np.asarray(shown.resize(size), np.float64)
    columns = min(A_ROW, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    sheet = Image.new("RGB", (columns * size[0], rows * (size[1] + LINE)), "white")
    canvas = ImageDraw.Draw(sheet)
    for number, word in enumerate(["", *words]):
        at = (number % columns * size[0], number // columns * (size[1] + LINE))
        tile = image if number == 0 else _lit(image, maps[number - 1], size)
        sheet.paste(Image.fromarray(tile.clip(0, 255).astype(np.uint8)), (at[0], at[1] + LINE))
        canvas.text((at[0] + 3, at[1] + 1), word, fill=COLOURS[0])
    save_jpeg(sheet, out)


def _lit(image: np.ndarray, looks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the image, dark where the map is 0 and white-hot where it is largest."""
    light = Image.fromarray((looks / max(looks.max(), 1e-12)).astype(np.float32))
    strength = np.asarray(light.resize(size, Image.Resampling.BILINEAR), np.float64)[..., None]
    return image * (0.25 + 0.75 * strength) + 90 * strength**2
