"""Augmentation as data: a view is twelve numbers, so a view can be stored and seen again.

A teacher's outputs are cached per view; student and teacher see the same view of the same image
at their own resolutions, since the numbers are relative to the image's size.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import adjust_hue, adjust_saturation

from compress.data.input_spec import InputSpec
from compress.data.mirrored_views import MIRROR, MIRRORS
from compress.data.view_geometry import affine
from compress.training import policies
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
    "saturation",
    "hue",
    "mirror",  # 0: as it is, or one of MIRRORS
    "policy",  # 0: none, or as `policies` numbers them
)
DRAWN = 8  # fields that each view has always had
SATURATION, HUE, POLICY = 8, 9, 11
assert FIELDS[MIRROR] == "mirror"


def draw_views(count: int, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """float32 (count, 12): one view per row, columns as in FIELDS."""
    u = rng.uniform(-1, 1, (count, DRAWN)).astype(np.float32)
    views = np.zeros((count, len(FIELDS)), np.float32)
    views[:, 0] = u[:, 0] * math.radians(settings.rotation_degrees)
    views[:, 1] = np.log1p(np.abs(u[:, 1]) * settings.scale) * np.sign(u[:, 1])
    views[:, 2:4] = u[:, 2:4] * settings.shift
    views[:, 4] = 1 + u[:, 4] * settings.brightness
    views[:, 5] = 1 + u[:, 5] * settings.contrast
    views[:, 6:8] = (u[:, 6:8] + 1) / 2
    views[:, SATURATION] = 1
    # What is not asked for draws nothing: views of older recipes stay what they were.
    if settings.saturation or settings.hue:
        colour = rng.uniform(-1, 1, (count, 2))
        views[:, SATURATION] += colour[:, 0] * settings.saturation
        views[:, HUE] = colour[:, 1] * settings.hue
    if settings.mirror != "never":
        views[:, MIRROR] = (rng.random(count) < 0.5) * MIRRORS[settings.mirror]
    if settings.policy != "none":
        views[:, POLICY] = policies.drawn(settings.policy, count, rng)
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
        views: float32 (n, 12) as `draw_views` makes them.
        erase: side of the erased square as a fraction of the image's.

    Returns:
        float32 (n, channels, height, width), normalised, channels_last.
    """
    x = to_pixels(policies.applied(images, views[:, POLICY]), device)
    v = torch.from_numpy(np.ascontiguousarray(views)).to(device)
    if bool((v[:, MIRROR] > 0).any()):
        x = torch.where(v[:, MIRROR].view(-1, 1, 1, 1) > 0, x.flip(3), x)
    grid = F.affine_grid(affine(v, x.shape[2] / x.shape[3]), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    mean = x.mean((1, 2, 3), keepdim=True)
    brightness, contrast = v[:, 4].view(-1, 1, 1, 1), v[:, 5].view(-1, 1, 1, 1)
    x = ((x - mean).mul_(contrast) + mean * brightness).clamp_(0, 255)
    if x.shape[1] == 3 and bool((v[:, SATURATION] != 1).any() | (v[:, HUE] != 0).any()):
        x = _coloured(x, v[:, SATURATION], v[:, HUE])
    if erase > 0:
        x = torch.where(_squares(v[:, 6:8], erase, x.shape[2], x.shape[3]), mean, x)
    return normalise_pixels(x, spec)


def _coloured(x: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Return RGB images in [0, 255] with saturation and hue changed, each by its own numbers."""
    changed = [
        adjust_hue(adjust_saturation(image / 255, float(s)), float(h))
        for image, s, h in zip(x, saturation, hue, strict=True)
    ]
    return torch.stack(changed) * 255


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
