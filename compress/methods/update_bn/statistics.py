"""The mean and variance that batch norms normalise by."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def norms_of(network: nn.Module) -> list[Any]:
    """Return the batch norms that keep statistics."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


def measure(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give a network's batch norms the means of these batches' statistics; it is left evaluating.

    As `torch.optim.swa_utils.update_bn` does, but that dropout stays asleep.

    Args:
        batches: images, float32 (n, channels, height, width), n of 2 or more.
    """
    norms = norms_of(network)
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # every batch counts alike
        norm.train()
    with torch.inference_mode():
        for images in batches:
            network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
