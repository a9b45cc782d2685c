"""Twice as many classes while a network trains: the mirror image of a thing as another thing."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Doubled(nn.Module):
    """A network's last layer, and beside it one for the mirror images; it serves training alone."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own
        self.mirrored = copy.deepcopy(own)
        for module in self.mirrored.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()  # begun alike, the two would have to part first

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of both (n, 2 x classes); in eval mode its own (n, classes)."""
        if not self.training:
            return self.own(x)
        return torch.cat([self.own(x), self.mirrored(x)], 1)


@contextmanager
def doubled(model: nn.Module, last: str) -> Iterator[None]:
    """Doubles a network's classes while the context is open; `last` names its last layer."""
    parent, _, name = last.rpartition(".")
    holder = model.get_submodule(parent)
    own = holder.get_submodule(name)
    setattr(holder, name, Doubled(own))
    try:
        yield
    finally:
        setattr(holder, name, own)
