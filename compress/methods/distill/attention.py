"""Where a network looks: attention transfer (Zagoruyko & Komodakis 2017, arXiv:1612.03928).

A map of features becomes one of attention: the squares of its channels summed, brought to length 1.
Teacher and student may so differ in channels, and their maps in size.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.candidate import Candidate
from compress.utils.errors import UserError


def attention(features: Tensor, height: int, width: int) -> Tensor:
    """Of a map (n, channels, rows, columns): float32 (n, height, width), each of length 1."""
    seen = features.float().square().sum(1, keepdim=True)
    seen = F.interpolate(seen, (height, width), mode="bilinear", antialias=True)
    return F.normalize(seen.flatten(1), dim=1).view(-1, height, width)


def difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two networks' attention (n, height, width), mean of a batch: 0 to 2."""
    return (student - teacher).square().sum((1, 2)).mean()


class Watch:
    """Keeps the last map that a layer of a network was given in its latest forward pass."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size  # height and width of that map, for images of the usual size
        self._features: Tensor | None = None

    def see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def attention(self, size: tuple[int, int] | None = None) -> Tensor:
        """As the function of that name, of the images that the network saw last."""
        assert self._features is not None, "the network has seen nothing yet"
        return attention(self._features, *(size or self.size))


@contextmanager
def watched(network: Candidate) -> Iterator[Watch]:
    """Watches a network while the context is open.

    Raises:
        UserError: no layer of it is given a map of several places.
    """
    layer, size = _last_map(network)
    watch = Watch(size)
    hook = layer.register_forward_pre_hook(watch.see)
    try:
        yield watch
    finally:
        hook.remove()


@torch.no_grad()
def _last_map(network: Candidate) -> tuple[nn.Module, tuple[int, int]]:
    """The layer that is the last to be given a map of several places, and the map's size."""
    found: list[tuple[nn.Module, tuple[int, int]]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and inputs[0].ndim == 4 and inputs[0].shape[2:].numel() > 1:
            found.append((layer, (inputs[0].shape[2], inputs[0].shape[3])))

    layers = [m for m in network.model.modules() if not list(m.children())]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    training = network.model.training
    device = next(network.model.parameters()).device
    try:
        image = torch.zeros(1, *network.spec.shape, device=device)
        network.model.eval()(image)
    finally:
        network.model.train(training)
        for hook in hooks:
            hook.remove()
    if not found:
        raise UserError(
            f"{network.name} has no layer that sees a map of several places: its attention "
            "cannot be compared. Choose the loss points."
        )
    return found[-1]
