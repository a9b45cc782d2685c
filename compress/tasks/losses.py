"""Losses of any outputs, by name; each returns a scalar."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def match(ours: Mapping[str, Tensor], teachers: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference of each output in units of the teacher's variance, their mean."""
    errors = [
        F.mse_loss(ours[name], given) / given.var(correction=0).clamp(min=1e-12)
        for name, given in teachers.items()
    ]
    return torch.stack(errors).mean()


def gaussian(outputs: Mapping[str, Tensor]) -> Tensor:
    """Half the squared distance of outputs from numbers drawn around them, summed."""
    drawn = [(x, torch.normal(x.detach(), 1.0)) for x in outputs.values()]
    return torch.stack([0.5 * F.mse_loss(x, y, reduction="sum") for x, y in drawn]).sum()
