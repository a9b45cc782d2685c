"""Where points come to lie in views of an image."""

import numpy as np
import torch
from torch import Tensor

from compress.data.input_spec import InputSpec
from compress.data.mirrored_views import MIRROR
from compress.data.view_geometry import affine


def move_points(points: Tensor, views: np.ndarray, spec: InputSpec) -> Tensor:
    """Where points of an image lie in views of it, float32 (n, 2 x points).

    A box stays upright: it becomes the one round the ellipse that it was round, which is what it
    holds more often than a thing that fills its corners. Points of a mirrored image keep their
    names.

    Args:
        points: float32 (n, 2 x points), x and y of each as input fractions.
        views: float32 (n, 12) as `draw_views` makes them.
    """
    mirrored = torch.from_numpy(views[:, MIRROR] > 0)
    points = torch.where(mirrored[:, None], _mirrored(points, spec.has_box), points)
    theta = affine(torch.from_numpy(np.ascontiguousarray(views)), spec.height / spec.width)
    # A view looks the image up at theta: a point goes the other way. Both count from -1 to 1.
    turn = torch.linalg.inv(theta[:, :, :2])
    placed = 2 * points.reshape(len(points), -1, 2) - 1
    found = (placed - theta[:, None, :, 2]) @ turn.mT
    if spec.has_box:
        half = (points[:, 2:4] - points[:, :2])[:, None]
        half = (half**2 @ (turn**2).mT).sqrt()
        box = found[:, :2].mean(1, keepdim=True) + torch.cat([-half, half], 1)
        found = torch.cat([box, found[:, 2:]], 1)
    return (found.flatten(1) + 1) / 2


def _mirrored(points: Tensor, has_box: bool) -> Tensor:
    """Return the points with right for left; a box's corners stay its left and its right one."""
    x, y = points[:, 0::2], points[:, 1::2]
    x = torch.cat([1 - x[:, [1, 0]], 1 - x[:, 2:]], 1) if has_box else 1 - x
    return torch.stack([x, y], 2).flatten(1)
