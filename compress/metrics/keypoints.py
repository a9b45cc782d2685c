"""How far predicted points and boxes are from the true ones, in pixels of the image."""

from typing import NamedTuple

import numpy as np

from compress.results.schema import PointErrors


class KeypointTolerance(NamedTuple):
    """How near is right."""

    distance: float = 0.1  # of every point at most, relative to the true ones'
    iou: float = 0.5  # of a box with the true one, at least

    def described(self) -> dict[str, float]:
        """Return it as the keys of stages have it."""
        return {"tolerance": self.distance, "iou": self.iou}


USUAL = KeypointTolerance()


def errors(
    found: np.ndarray,
    true: np.ndarray,
    sizes: np.ndarray,
    has_box: bool,
    tolerance: KeypointTolerance,
) -> PointErrors:
    """All of a network's; arguments as in `distances`, and whether the first two
    points are a box. Distances are those of the points that are
    no box, or of a box's corners where there are no others.
    """
    overlap = iou(found[:, :2], true[:, :2]) if has_box else None
    rest = true.shape[1] - 2 * has_box
    found, true = found[:, -rest:], true[:, -rest:]  # all of them where rest is 0
    far = distances(found, true, sizes)
    return PointErrors(
        tolerance=tolerance.distance if rest else None,
        least_iou=None if overlap is None else tolerance.iou,
        median_distance=float(np.median(far)),
        p90_distance=float(np.quantile(far, 0.9)),
        mean_iou=None if overlap is None else float(overlap.mean()),
        median_angle_degrees=float(np.median(angle_errors(found, true))) if rest == 2 else None,
    )


def distances(found: np.ndarray, true: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Of each point from the true one, relative to `scale`; float64 (n, points).

    Args:
        found, true: x, y in pixels, (n, points, 2).
        sizes: width and height of the images, (n, 2).
    """
    return np.linalg.norm(found - true, axis=2) / scale(true, sizes)[:, None]


def scale(true: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What distances are measured by, in pixels (n,): the largest between two true points (a head's
    length, a box's diagonal), with a single point the image's diagonal."""
    if true.shape[1] == 1:
        return np.linalg.norm(sizes, axis=1)
    between = np.linalg.norm(true[:, :, None] - true[:, None, :], axis=3)
    return between.max((1, 2))


def iou(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes given by two corners (n, 2, 2); (n,) in [0, 1].

    A box whose second corner is not below and right of its first has no area; two such share 0.
    """
    overlap = np.minimum(found[:, 1], true[:, 1]) - np.maximum(found[:, 0], true[:, 0])
    intersection = overlap.clip(0).prod(1)
    areas = [(box[:, 1] - box[:, 0]).clip(0).prod(1) for box in (found, true)]
    union = areas[0] + areas[1] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def angle_errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Between the directions from second to first point, in degrees (n,) in [0, 180]."""
    a, b = (np.arctan2(*np.moveaxis(p[:, 0] - p[:, 1], 1, 0)[::-1]) for p in (found, true))
    turn = np.degrees(a - b)
    return np.abs((turn + 180) % 360 - 180)
