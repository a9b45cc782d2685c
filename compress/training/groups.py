"""Which of a network's weights learn, and how fast: the head, blocks by depth, what is frozen."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from compress.models.head import belongs
from compress.models.layer_patterns import matching
from compress.training.settings import TrainSettings
from compress.utils.errors import UserError

NUMBERED = re.compile(r".*?\.(?:[A-Za-z_]+_)?\d+(?=\.)")  # of a list, or of torchvision's names
ENDS_IN_NUMBER = re.compile(r".*?\.[A-Za-z_]+\d+(?=\.)")
SCALE = "lr_scale"  # of a parameter group: times the schedule's learning rate


def make_optimizer(
    model: nn.Module, settings: TrainSettings, head: Sequence[str] = ()
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; no weight decay on biases and norms.

    Args:
        head: modules that learn by `head_lr_factor` faster than the rest.
    """
    scales = _scales(model, settings, head)
    groups: list[dict[str, Any]] = []
    for scale in sorted(set(scales.values()), reverse=True) or [1.0]:
        named = [(k, p) for k, p in model.named_parameters() if scales.get(k) == scale]
        for decayed in (True, False):
            chosen = [p for _, p in named if (p.ndim > 1) == decayed]
            decay = settings.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "weight_decay": decay, SCALE: scale})
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, settings.lr)


def add_learned(optimizer: torch.optim.Optimizer, loss: nn.Module) -> None:
    """Let what learns in a loss learn, too: at the schedule's rate, without weight decay."""
    learned = {"params": list(loss.parameters()), "weight_decay": 0.0, SCALE: 1.0}
    optimizer.add_param_group(learned)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the schedule's learning rate, each group's share of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group[SCALE]


def _scales(model: nn.Module, settings: TrainSettings, head: Sequence[str]) -> Mapping[str, float]:
    """Return of each parameter that learns how fast it does, times the schedule's rate."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    blocks = list(dict.fromkeys(block(name) for name in names if not belongs(name, head)))
    found = {}
    for name in names:
        if belongs(name, head):
            found[name] = settings.head_lr_factor
        else:  # the last block before a head is one block away from it
            depth = len(blocks) - blocks.index(block(name)) - (not head)
            found[name] = settings.layer_decay**depth
    return found


def block(name: str) -> str:
    """Return the block that a parameter is of: its name up to the first number, if it has one.

    `features.3.conv.0.weight` is of `features.3`, `layer1.0.bn1.bias` of `layer1.0`,
    `layers.encoder_layer_11.ln.bias` of `layers.encoder_layer_11`, `stem.weight` of `stem`; without
    such a number, `features.denseblock1.denselayer2.conv.weight` is of `features.denseblock1`.
    """
    numbered = NUMBERED.match(name) or ENDS_IN_NUMBER.match(name)
    return numbered[0] if numbered else name.partition(".")[0]


@contextmanager
def frozen(model: nn.Module, patterns: Sequence[str]) -> Iterator[list[nn.Module]]:
    """Freezes modules while the context is open; it gives them, for they are to stay in eval mode.

    Raises:
        UserError: a pattern that matches no module; all that could learn is frozen.
    """
    modules = [
        model.get_submodule(name)
        for name in matching(patterns, [name for name, _ in model.named_modules() if name])
    ]
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("train.freeze leaves nothing that could learn: freeze less.")
    try:
        yield modules
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def train_mode(
    model: nn.Module,
    still: Sequence[nn.Module],
    learning: Mapping[str, nn.Parameter],
    head_alone: Sequence[str] | None,
) -> None:
    """Put the network into training mode, except what is not to learn: norms keep what they know.

    Args:
        still: frozen modules.
        learning: all parameters that learn in some epoch, by name.
        head_alone: modules that learn alone in this epoch; None: all do.
    """
    model.train(head_alone is None)
    for name, parameter in learning.items():
        parameter.requires_grad_(head_alone is None or belongs(name, head_alone))
    for name in head_alone or ():
        model.get_submodule(name).train()
    for module in still:
        module.eval()
