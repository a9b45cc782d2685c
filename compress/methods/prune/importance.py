"""What channels are worth."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from compress.methods.prune.channel_groups import PrunableNetwork
from compress.utils.errors import UserError


def magnitude(prunable: PrunableNetwork) -> list[Tensor]:
    """Return the squared L2 norm over all weights of a channel, divided by the group's mean."""
    return _of_library(prunable, tp.importance.GroupMagnitudeImportance(p=2, normalizer="mean"))


def bn_scale(prunable: PrunableNetwork) -> list[Tensor]:
    """Return the batch norm's scale, divided by the group's mean.

    Liu et al. 2017, arXiv:1708.06519.

    Raises:
        UserError: a group without a batch norm.
    """
    return _of_library(prunable, tp.importance.BNScaleImportance(normalizer="mean"))


def _of_library(prunable: PrunableNetwork, importance: tp.importance.Importance) -> list[Tensor]:
    found = []
    for group, library in zip(prunable.groups, prunable.library_groups, strict=True):
        worth = importance(library)
        if worth is None:
            raise UserError(
                f"The channels of {group.root} cannot be ranked: it has no batch norm. Use "
                "importance: magnitude or taylor."
            )
        # A group of nothing but zeros has no mean to be divided by; it is worth nothing.
        found.append(worth.detach().float().nan_to_num(0.0))
    return found


def taylor(
    prunable: PrunableNetwork,
    batches: Iterable[Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
    drawn_loss: Callable[[Any], Tensor],
) -> list[Tensor]:
    """Estimate how much the answers would change without a channel, to second order.

    The squared derivative of the loss by a gate on the channel (Molchanov et al. 2019,
    arXiv:1906.10771), summed over batches. Labels are drawn from the network's own answers, so
    that this is the Fisher information (Theis et al. 2018, arXiv:1801.05787): it does not vanish
    where the network already fits its labels. Comparable between layers.

    Args:
        batches: images, float32 (n, channels, height, width), on the device to compute on.
        drawn_loss: of what the network gives, against labels drawn from what it says, summed.
    """
    model = prunable.model
    sums = [torch.zeros(group.channels) for group in prunable.groups]
    for images in batches:
        model.to(images.device)
        model.zero_grad(set_to_none=True)
        with autocast():
            outputs = model(images)
        drawn_loss(outputs).backward()  # type: ignore[no-untyped-call]
        for total, library in zip(sums, prunable.library_groups, strict=True):
            total += _gate_gradient(prunable.graph, library) ** 2
    model.zero_grad(set_to_none=True)
    model.cpu()
    return sums


def _gate_gradient(graph: tp.DependencyGraph, group: tp.Group) -> Tensor:
    """Return the loss's derivative by a factor on each channel: the sum of weight times gradient.

    The gate stands wherever the channel is made: on the scale and shift of its batch norms, or
    where there are none on what the layers put out.
    """
    norms, makers = [], []
    for item in group:
        module = item.dep.target.module
        if isinstance(module, BatchNorm) and module.affine:
            norms.append(item)
        elif isinstance(module, nn.Conv2d | nn.Linear) and graph.is_out_channel_pruning_fn(
            item.dep.handler
        ):
            makers.append(item)
    total = torch.zeros(len(group[0].idxs))
    for item in norms or makers:
        parameters = item.dep.target.module.parameters(recurse=False)
        terms = [p.detach() * p.grad for p in parameters if p.grad is not None]
        if terms:
            by_output = torch.stack([t.flatten(1).sum(1) if t.ndim > 1 else t for t in terms])
            gates = by_output.sum(0)[torch.as_tensor(item.idxs)].cpu()
            total.index_add_(0, torch.as_tensor(item.root_idxs), gates)
    return total
