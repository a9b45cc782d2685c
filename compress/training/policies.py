"""Augmentation policies of torchvision, each image's from a seed of its own.

A view holds one number for it, so that a teacher is shown the same image as its student, each at
its own size: the policy's number times SEEDS plus the seed.
"""

from functools import cache

import numpy as np
import torch
from torchvision.transforms import v2

SEEDS = 1 << 20  # per policy; times the number of policies below 2^24, which float32 holds exactly
NUMBERS = {"trivial": 1, "rand": 2}


def drawn(policy: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of `count` views, int64 (count,)."""
    return NUMBERS[policy] * SEEDS + rng.integers(SEEDS, size=count)


def applied(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return images as their policies change them; those with number 0 stay as they are.

    Args:
        images: uint8 (n, height, width, channels).
        numbers: (n,), as in views.
    """
    if not np.any(numbers):
        return images
    changed = np.array(images)
    for i, number in enumerate(numbers.astype(np.int64).tolist()):
        if number:
            changed[i] = _changed(changed[i], number // SEEDS, number % SEEDS)
    return changed


def _changed(image: np.ndarray, policy: int, seed: int) -> np.ndarray:
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _policies()[policy](pixels).permute(1, 2, 0).numpy()


@cache
def _policies() -> dict[int, v2.Transform]:
    mode = v2.InterpolationMode.BILINEAR
    return {1: v2.TrivialAugmentWide(interpolation=mode), 2: v2.RandAugment(interpolation=mode)}
