"""Where a view of an image looks: of its numbers the four that move it."""

import torch
from torch import Tensor


def affine(v: Tensor, aspect: float) -> Tensor:
    """Return of each view, (n, 2, 3), the way from its coordinates to the image's, in [-1, 1].

    Args:
        v: (n, fields), of which the first are rotation in radians, the logarithm of the scale, and
            the shift along x and y as a share of the image.
        aspect: height by width.
    """
    cos, sin = torch.cos(v[:, 0]) * torch.exp(v[:, 1]), torch.sin(v[:, 0]) * torch.exp(v[:, 1])
    return torch.stack(
        [
            torch.stack([cos, -sin * aspect, 2 * v[:, 2]], 1),
            torch.stack([sin / aspect, cos, 2 * v[:, 3]], 1),
        ],
        1,
    )
