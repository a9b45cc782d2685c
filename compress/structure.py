"""Networks whose layers were changed: narrowed by pruning, or replaced by factors.

A saved candidate names its builder; what a step changed in the structure is replayed on a fresh
network: first the layers that became factors, then every layer takes the shape of its weights.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

if TYPE_CHECKING:
    from compress.factorization import Form


class Factored(NamedTuple):
    """A layer that became a sequence of factors; their ranks are in the weights' shapes."""

    layer: str
    form: "Form"


def restructure(
    model: nn.Module, factored: Sequence[Factored], tensors: Mapping[str, Tensor]
) -> None:
    """Gives a freshly built network the structure that a state dict was saved from."""
    for layer, form in factored:
        from compress.factorization import empty, replace

        old = model.get_submodule(layer)
        replace(model, layer, empty(old, form, _smallest_ranks(form)))
    for name, module in model.named_modules():
        weight = tensors.get(f"{name}.weight")
        if weight is not None and hasattr(module, "weight") and module.weight is not None:
            if weight.shape != module.weight.shape:
                _resize(module, weight)


def _smallest_ranks(form: "Form") -> tuple[int, ...]:
    return (1, 1) if form == "tucker2" else (1,)


def _resize(module: nn.Module, weight: Tensor) -> None:
    """Changes a layer's channels to those of `weight`; depthwise convolutions stay depthwise."""
    if isinstance(module, nn.Conv2d):
        depthwise = module.groups == module.in_channels and module.groups > 1
        if depthwise:
            module.groups = weight.shape[0] * module.in_channels // module.out_channels
        module.out_channels = weight.shape[0]
        module.in_channels = weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, BatchNorm):
        module.num_features = len(weight)
        assert module.running_mean is not None and module.running_var is not None
        module.running_mean = torch.zeros(len(weight))
        module.running_var = torch.ones(len(weight))
    else:
        return  # load_into names the shapes that do not fit
    for name, parameter in module.named_parameters(recurse=False):
        shape = weight.shape if name == "weight" else weight.shape[:1]
        setattr(module, name, nn.Parameter(torch.empty(shape, dtype=parameter.dtype)))


def reset_weights(model: nn.Module) -> None:
    """Draws every weight anew, as a builder would; batch norms start neutral.

    Layers draw by their own `reset_parameters`; convolutions then as He et al. 2015
    (arXiv:1502.01852), as torchvision's VGG, ResNet and MobileNet do.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
