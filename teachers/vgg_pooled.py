"""VGG16 whose last map is averaged: one linear layer behind the convolutions.

It fine-tunes from ImageNet's convolutions in few epochs, with batch norms that begin as doing
nothing. Simonyan & Zisserman 2014,
arXiv:1409.1556; global average pooling: Lin et al. 2013, arXiv:1312.4400.
"""

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from teachers.vgg import prepare_weights as prepare_weights


class PooledVGG(nn.Module):
    """torchvision's 13 convolutions (`features`), normalised means of channels, a linear layer."""

    def __init__(
        self, features: nn.Sequential, channels: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        # Sums of what ImageNet's convolutions give are in the hundreds: unscaled, each step of the
        # linear layer overshoots, and nothing is learned.
        self.norm = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of normalised images (n, 3, height, width)."""
        pooled = self.pool(self.features(images)).flatten(1)
        return self.classifier(self.dropout(self.norm(pooled)))  # type: ignore[no-any-return]


def vgg16_bn(num_classes: int = 1000, dropout: float = 0.5, width: float = 1.0) -> PooledVGG:
    """VGG16 with global average pooling; its `features` are named as torchvision's.

    Args:
        dropout: before the linear layer.
        width: factor on all channels of the convolutions; 1 is the full network.
    """
    layers = [c if isinstance(c, str) else max(8, round(c * width)) for c in cfgs["D"]]
    channels = [c for c in layers if isinstance(c, int)][-1]
    return PooledVGG(make_layers(layers, batch_norm=True), channels, num_classes, dropout)
