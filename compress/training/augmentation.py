"""Augmentation as data: a view is eight numbers, so a view can be stored and seen again.

A teacher's outputs are cached per view; student and teacher see the same view of the same image
at their own resolutions, since the numbers are relative to the image's size.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data.input_spec import InputSpec
from compress.data.view_geometry import affine
from compress.training.settings import Augmentation

FIELDS = (
    "rotation_rad",
    "log_scale",
    "shift_x",
    "shift_y",
    "brightness",
    "contrast",
    "erase_x",
    "erase_y",
)


def draw_views(count: int, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """float32 (count, 8): one view per row, columns as in FIELDS."""
    u = rng.uniform(-1, 1, (count, len(FIELDS))).astype(np.float32)
    views = np.empty_like(u)
    views[:, 0] = u[:, 0] * math.radians(settings.rotation_degrees)
    views[:, 1] = np.log1p(np.abs(u[:, 1]) * settings.scale) * np.sign(u[:, 1])
    views[:, 2:4] = u[:, 2:4] * settings.shift
    views[:, 4] = 1 + u[:, 4] * settings.brightness
    views[:, 5] = 1 + u[:, 5] * settings.contrast
    views[:, 6:8] = (u[:, 6:8] + 1) / 2
    return views


def apply_views(
    images: np.ndarray,
    views: np.ndarray,
    spec: InputSpec,
    device: torch.device,
    erase: float = 0.0,
) -> Tensor:
    """Images as the network takes them, augmented.

    Args:
        images: uint8 (n, height, width, channels), RGB or grey.
        views: float32 (n, 8) as `draw_views` makes them.
        erase: side of the erased square as a fraction of the image's.

    Returns:
        float32 (n, channels, height, width), normalised, channels_last.
    """
    x = to_pixels(images, device)
    v = torch.from_numpy(np.ascontiguousarray(views)).to(device)
    grid = F.affine_grid(affine(v, x.shape[2] / x.shape[3]), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    mean = x.mean((1, 2, 3), keepdim=True)
    brightness, contrast = v[:, 4].view(-1, 1, 1, 1), v[:, 5].view(-1, 1, 1, 1)
    x = ((x - mean).mul_(contrast) + mean * brightness).clamp_(0, 255)
    if erase > 0:
        x = torch.where(_squares(v[:, 6:8], erase, x.shape[2], x.shape[3]), mean, x)
    return normalise_pixels(x, spec)


def _squares(corner: Tensor, side: float, height: int, width: int) -> Tensor:
    y = (torch.arange(height, device=corner.device) + 0.5) / height
    x = (torch.arange(width, device=corner.device) + 0.5) / width
    top, left = corner[:, 1:2] * (1 - side), corner[:, 0:1] * (1 - side)
    rows = (y >= top) & (y < top + side)
    columns = (x >= left) & (x < left + side)
    return (rows[:, None, :, None]) & (columns[:, None, None, :])


def to_pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (n, height, width, c) to float32 (n, c, height, width) in [0, 255], channels_last."""
    x = torch.from_numpy(np.array(images)).to(device)  # a copy: the store is read-only
    return x.permute(0, 3, 1, 2).float()


def normalise_pixels(x: Tensor, spec: InputSpec) -> Tensor:
    """Pixels in [0, 255] to what the network takes; as `input_spec.normalise` does."""
    if spec.channels == "bgr":
        x = x.flip(1)
    mean = torch.tensor(spec.mean, device=x.device).view(1, -1, 1, 1) * 255
    std = torch.tensor(spec.std, device=x.device).view(1, -1, 1, 1) * 255
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)
