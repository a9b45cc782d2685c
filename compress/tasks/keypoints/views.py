"""Where points come to lie in views of an image."""

import numpy as np
import torch
from torch import Tensor

from compress.data.input_spec import InputSpec
from compress.data.view_geometry import affine


def move_points(points: Tensor, views: np.ndarray, spec: InputSpec) -> Tensor:
    """Where points of an image lie in views of it, float32 (n, 2 x points).

    A box stays upright: it becomes the one round the ellipse that it was round, which is what it
    holds more often than a thing that fills its corners.

    Args:
        points: float32 (n, 2 x points), x and y of each as input fractions.
        views: float32 (n, 8) as `draw_views` makes them.
    """
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
