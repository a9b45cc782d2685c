"""VGG16 whose classifier ends in a unit vector, for spaces of identities or words."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from teachers import vgg
from teachers.vgg import prepare_weights

__all__ = ["prepare_weights", "vgg16_bn"]


class UnitVector(nn.Module):
    """Give vectors (n, dimension) the length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors over their lengths."""
        return F.normalize(vectors)


def vgg16_bn(num_classes: int = 128, *, last_pool: bool = True, **settings: Any) -> nn.Module:
    """Build VGG16-BN as `teachers.vgg:vgg16_bn` does; weights have the same names.

    Args:
        num_classes: numbers of the vector.
        last_pool: whether the max pooling behind the last convolution stays. At 48 pixels its
            input is a map of 3 x 3, of which it makes one cell and leaves five unseen.
    """
    model = vgg.vgg16_bn(num_classes, **settings)
    if not last_pool:
        del model.features[-1]
    model.classifier.append(UnitVector())
    return model
