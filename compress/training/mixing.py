"""Two images of a batch in one: mixup (Zhang et al. 2018, arXiv:1710.09412) and cutmix (Yun et al.
2019, arXiv:1905.04899), one weight and one permutation a batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed; places are fractions of the image's sides."""

    weight: float  # of an image itself; the rest is its partner's
    order: np.ndarray  # int64 (n,), the partners
    box: tuple[float, float, float, float] | None = None  # top, bottom, left, right; none: mixup

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the mixed images (n, channels, height, width), or features (n, …) by mixup."""
        partners = inputs[torch.from_numpy(self.order).to(inputs.device)]
        if self.box is None:
            return self.weight * inputs + (1 - self.weight) * partners
        height, width = inputs.shape[2:]
        top, bottom = (round(side * height) for side in self.box[:2])
        left, right = (round(side * width) for side in self.box[2:])
        mixed = inputs.clone()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return mixed


def draw_mix(mixup: float, cutmix: float, count: int, rng: np.random.Generator) -> Mix | None:
    """Return how a batch is mixed; where both are asked for, one of them by turns of a coin.

    Args:
        mixup, cutmix: alpha of the Beta distributions of the weight; 0 is off.
        count: images of the batch.
    """
    if mixup == 0 and cutmix == 0:
        return None
    cuts = cutmix > 0 and (mixup == 0 or bool(rng.random() < 0.5))
    alpha = cutmix if cuts else mixup
    weight = float(rng.beta(alpha, alpha))
    order = rng.permutation(count)
    if not cuts:
        return Mix(weight, order)
    side = np.sqrt(1 - weight)
    y, x = rng.random(2)
    top, left = max(y - side / 2, 0.0), max(x - side / 2, 0.0)
    bottom, right = min(y + side / 2, 1.0), min(x + side / 2, 1.0)
    # What lies beyond the image is not cut out: the weight is of what is.
    return Mix(1 - (bottom - top) * (right - left), order, (top, bottom, left, right))
