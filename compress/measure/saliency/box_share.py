"""How much of a saliency map lies inside a box, against what an even map would have there.

Boxes are left, top, right, bottom in fractions of the input's sides, float64 (n, 4); what of a box
lies outside of the input does not count.
"""

import numpy as np

from compress.data.coordinates import to_input, upright_size
from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.results.schema import Looks
from compress.utils.interval import Interval
from compress.utils.seeding import generator

COLUMNS = ("x", "y", "width", "height")  # annotations that make a box, in pixels of the image
RESAMPLES = 2000
CONFIDENCE = 0.95


def boxed(data: Dataset, indices: np.ndarray, spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
    """Those of the images that have a box of which the input shows something, and the boxes."""
    chosen = [i for i in indices.tolist() if data.images[i].annotations.keys() >= set(COLUMNS)]
    if not chosen:
        return np.empty(0, dtype=np.int64), np.empty((0, 4))
    annotated = np.array([[data.images[i].annotations[c] for c in COLUMNS] for i in chosen])
    sizes = np.array([upright_size(data.root / data.images[i].path) for i in chosen])
    corners = np.stack([annotated[:, :2], annotated[:, :2] + annotated[:, 2:]], axis=1)
    boxes = to_input(corners, sizes, spec).reshape(-1, 4)
    shown = (annotated[:, 2:] > 0).all(1) & (area_inside(boxes) > 0)
    return np.array(chosen)[shown], boxes[shown]


def area_inside(boxes: np.ndarray) -> np.ndarray:
    """Each box's share of the input's area, float64 (n,): what an even map has inside."""
    sides = np.diff(boxes.clip(0, 1).reshape(-1, 2, 2), axis=1)
    return np.asarray(sides.prod(axis=2)[:, 0])


def share_inside(saliency: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of each map (n, height, width) in its box, float64 (n,); nan where a map is empty.

    A pixel that a box covers in part counts in part.
    """
    _, height, width = saliency.shape
    across = _covered(boxes[:, 0], boxes[:, 2], width)
    down = _covered(boxes[:, 1], boxes[:, 3], height)
    inside = np.einsum("nhw,nh,nw->n", saliency.astype(np.float64), down, across)
    total = saliency.sum((1, 2), dtype=np.float64)
    return np.divide(inside, total, out=np.full(len(total), np.nan), where=total > 0)


def _covered(start: np.ndarray, end: np.ndarray, pixels: int) -> np.ndarray:
    """What fraction of each pixel lies between start and end, float64 (n, pixels)."""
    first = np.arange(pixels)
    overlap = np.minimum(end[:, None] * pixels, first + 1) - np.maximum(
        start[:, None] * pixels, first
    )
    return np.asarray(overlap.clip(0, 1))


def looks(shares: np.ndarray, areas: np.ndarray) -> Looks | None:
    """Means over the images whose map is not empty, with percentile bootstraps over images.

    Args:
        shares, areas: of `share_inside` and `area_inside`.

    Returns:
        None with fewer than two such images: nothing can be said of their spread.
    """
    found = np.isfinite(shares)
    shares, areas = shares[found], areas[found]
    if len(shares) < 2:
        return None
    rng = generator(0, "saliency bootstrap", len(shares))
    drawn = rng.integers(len(shares), size=(RESAMPLES, len(shares)))
    means, even = shares[drawn].mean(1), areas[drawn].mean(1)
    return Looks(
        images=len(shares),
        share_inside=_interval(shares.mean(), means),
        times_even=_interval(shares.mean() / areas.mean(), means / even),
    )


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=float(value), low=float(low), high=float(high), confidence=CONFIDENCE)
