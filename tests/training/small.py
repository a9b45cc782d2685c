"""A network and images of a few pixels, to be trained in no time."""

import numpy as np
import torch
from torch import nn

from compress.data.input_spec import InputSpec
from compress.tasks import task_of
from compress.training.batches import FeatureFeed
from compress.training.settings import TrainSettings

SPEC = InputSpec(height=8, width=8, mean=(0,) * 3, std=(1,) * 3, classes=("a", "b", "c"))


class Net(nn.Module):
    """A convolution, a norm, a head."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).flatten(1))


def network_of(norm: str) -> Net:
    """Return a network with a batch norm or a group norm, always the same."""
    torch.manual_seed(0)
    return Net(nn.BatchNorm2d(8) if norm == "batch" else nn.GroupNorm(2, 8))


def feed_of(settings: TrainSettings) -> FeatureFeed:
    """Return 32 images in two views, of three classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    images = rng.normal(size=(2, 40, 3, 8, 8)) + labels[None, :, None, None, None] - 1
    return FeatureFeed(
        features=images.astype(np.float16),
        targets=np.stack([labels, labels]),
        pool=np.arange(32),
        validation_indices=np.arange(32, 40),
        validation_judge=lambda outputs: list(outputs["logits"].argmax(1) == labels[32:]),
        task=task_of(SPEC),
        seed=1,
        device=torch.device("cpu"),
        max_batch_size=settings.batch_size,
    )
