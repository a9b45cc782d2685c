"""Networks that say where something is: every place of a trunk's last map votes.

A fully connected layer behind a trunk has to learn afresh, for each place, what a head there means.
Here one convolution says at each place, for each point, how far away the point is and how sure that
is; the answer is the mean of these votes, weighted by a softmax over the places. What is learned at
one place so holds at all of them: a thousand pictures are enough. Without the distances it would be
integral regression (Sun et al. 2018, arXiv:1711.08229).

Teachers and students of one family. Each builder is `name(num_classes=4) -> nn.Module` with
`num_classes` x and y of each point; input (n, 3, height, width), output (n, num_classes) in
fractions of width and height.
"""

import torch
from torch import Tensor, nn
from torchvision import models

from teachers.vgg import prepare_weights
from teachers.vgg import vgg16_bn as vgg16_bn_classifier

__all__ = [
    "Voting",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "prepare_weights",
    "shufflenet_v2_x1_0",
    "vgg16_bn",
]


class Voting(nn.Module):
    """A trunk (`features`) and the votes of its last map, of `channels`, for each of `points`."""

    def __init__(self, features: nn.Module, channels: int, points: int) -> None:
        super().__init__()
        self.features = features
        self.points = points
        self.votes = nn.Conv2d(channels, 3 * points, 1)
        # In the beginning all places are about equally sure that the point is where they are.
        nn.init.normal_(self.votes.weight, std=1e-3)
        nn.init.constant_(self.votes.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> Tensor:
        votes = self.votes(self.features(pictures))
        height, width = votes.shape[2:]
        logits, right, down = votes.split(self.points, dim=1)
        sure = logits.flatten(2).softmax(2).unflatten(2, (height, width))
        at_x = (torch.arange(width, device=votes.device) + 0.5) / width
        at_y = (torch.arange(height, device=votes.device)[:, None] + 0.5) / height
        x, y = (sure * (at_x + right)).sum((2, 3)), (sure * (at_y + down)).sum((2, 3))
        return torch.stack([x, y], 2).flatten(1)


def vgg16_bn(num_classes: int = 4, width: float = 1.0) -> Voting:
    """VGG16's 13 convolutions without the last pooling: a place for each 16 x 16 pixels.

    Args:
        width: factor on all channels; 1 is the full network.
    """
    features = vgg16_bn_classifier(classifier_width=8, width=width).features[:-1]
    channels = [m.out_channels for m in features if isinstance(m, nn.Conv2d)][-1]
    return Voting(features, channels, num_classes // 2)


def mobilenet_v2(num_classes: int = 4) -> Voting:
    """Sandler et al. 2018, arXiv:1801.04381, up to its last map: a place for 32 x 32 pixels."""
    return Voting(models.mobilenet_v2(weights=None).features, 1280, num_classes // 2)


def mobilenet_v3_small(num_classes: int = 4) -> Voting:
    """Howard et al. 2019, arXiv:1905.02244, up to its last map: a place for each 32 x 32 pixels."""
    return Voting(models.mobilenet_v3_small(weights=None).features, 576, num_classes // 2)


def shufflenet_v2_x1_0(num_classes: int = 4) -> Voting:
    """Ma et al. 2018, arXiv:1807.11164, up to its last map: a place for each 32 x 32 pixels."""
    net = models.shufflenet_v2_x1_0(weights=None)
    trunk = (net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5)
    return Voting(nn.Sequential(*trunk), 1024, num_classes // 2)
