"""Finds out whether a network gives an image the same answer each time, and where it does not."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compress.runtimes.outputs import in_order
from compress.utils.errors import UserError

TOLERANCE = 1e-3  # of the standard deviation; and of the largest number, a hundredth of that


class Call(NamedTuple):
    """A module without children, what it was given and what it gave."""

    module: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def refuse_unrepeatable(model: nn.Module, images: Tensor, name: str) -> None:
    """Ask a network twice for the same images, and once for the first half of them alone.

    Args:
        model: in evaluation mode.
        images: float32 (n, 3, height, width).
        name: of the network, for the message.

    Raises:
        UserError: the answers are not the same, with the layer where that starts.
    """
    first = _answers(model, images)
    if _differ(first, _answers(model, images)):
        raise UserError(
            f"{name} gives the same images other answers when it is asked twice in evaluation "
            f"mode, which starts {_start(model, images, images)}: give dropout "
            "training=self.training, and draw no random numbers in forward."
        )
    half = images[: len(images) // 2]
    if len(half) and _differ(first, _answers(model, half)):
        raise UserError(
            f"{name} in evaluation mode answers an image differently beside other images, which "
            f"starts {_start(model, images, half)}: let batch norms go into evaluation mode, and "
            "give them running statistics."
        )


@torch.no_grad()
def _answers(model: nn.Module, images: Tensor) -> list[Tensor]:
    return [x.clone() for x in in_order(model(images)) if isinstance(x, Tensor)]


def _start(model: nn.Module, images: Tensor, again: Tensor) -> str:
    """Say where the answers for `again`, the first of the images, begin to be others."""
    behind = ""
    for one, other in zip(_calls(model, images), _calls(model, again), strict=False):
        if one.module != other.module or _differ(one.inputs, other.inputs):
            return f"before layer {one.module!r}{behind}"
        if _differ(one.outputs, other.outputs):
            return f"in layer {one.module!r}"
        behind = f", behind {one.module!r}"
    return "behind its last layer"


@torch.no_grad()
def _calls(model: nn.Module, images: Tensor) -> list[Call]:
    """Run the network and return the calls of its modules, in turn."""
    calls: list[Call] = []

    def note(name: str, inputs: tuple[object, ...], output: object) -> None:
        # Copies: a layer behind may compute in place.
        calls.append(Call(name, list(_tensors(inputs)), list(_tensors(output))))

    def before(name: str, inputs: tuple[object, ...]) -> None:
        given[name] = tuple(_tensors(inputs))

    given: dict[str, tuple[object, ...]] = {}
    leaves = {n: m for n, m in model.named_modules() if not list(m.children())}
    hooks = [
        hook
        for name, module in leaves.items()
        for hook in (
            module.register_forward_pre_hook(lambda _m, x, name=name: before(name, x)),
            module.register_forward_hook(
                lambda _m, _x, out, name=name: note(name, given.pop(name, ()), out)
            ),
        )
    ]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _tensors(given: object) -> Iterator[Tensor]:
    return (x.clone() for x in in_order(given) if isinstance(x, Tensor))


def _differ(many: list[Tensor], few: list[Tensor]) -> bool:
    """Return whether tensors differ in their first images, of which `few` may have no others."""
    for one, other in zip(many, few, strict=True):
        if not other.is_floating_point() or not other.numel():
            continue
        same = one[: len(other)] if one.ndim else one
        limit = TOLERANCE * (one.std(correction=0) + one.abs().max() / 100)
        if same.shape != other.shape or bool((same - other).abs().max() > limit):
            return True
    return False
