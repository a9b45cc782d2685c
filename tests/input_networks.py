"""A small network as somebody brings it: for one channel or three, images of any size."""

from torch import nn


def small(num_classes: int, channels: int = 3, width: int = 16) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2), nn.ReLU(),
        nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(8 * width, num_classes),
    )  # fmt: skip
