"""VGG16 whose classifier ends in a unit vector, for spaces of identities or words."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from teachers import vgg
from teachers.vgg import prepare_weights

__all__ = ["prepare_weights", "vgg16_bn"]


class UnitVector(nn.Module):
    """The direction of a vector: (n, dimension) at length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors over their lengths."""
        return F.normalize(vectors)


def vgg16_bn(num_classes: int = 128, **settings: Any) -> nn.Module:
    """VGG16-BN as `teachers.vgg:vgg16_bn` builds it; weights have the same names.

    Args:
        num_classes: numbers of the vector.
    """
    model = vgg.vgg16_bn(num_classes, **settings)
    model.classifier.append(UnitVector())
    return model
