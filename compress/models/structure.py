"""Networks whose layers were changed: narrowed by pruning, or replaced by factors or binary blocks.

A saved candidate names its builder; what a step changed in the structure is replayed on a fresh
network: first the layers that became others, then every layer takes the shape of its weights.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # batch and instance norms

if TYPE_CHECKING:
    from compress.models.factorized_layers import Form


class Replaced(NamedTuple):
    """A layer that became factors, a binary block or cosines; sizes are in the weights'."""

    layer: str
    form: "Form | Literal['binary', 'cosine']"


def restructure(
    model: nn.Module, replaced: Sequence[Replaced], tensors: Mapping[str, Tensor]
) -> None:
    """Gives a freshly built network the structure that a state dict was saved from.

    Its weights are then to be loaded: those of another shape are blank.
    """
    for layer, form in replaced:
        if form == "binary":
            from compress.models.binary_layers import binarize_layer

            # A block of its own, or the convolution of one that was there.
            names = (f"{layer}.conv.weight", f"{layer}.weight")
            size = next(tensors[name].shape for name in names if name in tensors)
            binarize_layer(model, layer, size)
            continue
        if form == "cosine":
            from compress.models.cosine_layer import cosine_head

            cosine_head(model, layer)
            continue
        from compress.models.factorized_layers import empty, replace

        old = model.get_submodule(layer)
        replace(model, layer, empty(old, form, _smallest_ranks(form)))
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        parameters = dict(module.named_parameters(recurse=False))
        for key, tensor in [*parameters.items(), *module.named_buffers(recurse=False)]:
            saved = tensors.get(prefix + key)
            if saved is not None and saved.shape != tensor.shape:
                blank = torch.empty(saved.shape, dtype=tensor.dtype)
                setattr(module, key, nn.Parameter(blank) if key in parameters else blank)
                _describe(module, *saved.shape[:1])


def _smallest_ranks(form: "Form") -> tuple[int, ...]:
    return (1, 1) if form == "tucker2" else (1,)


def _describe(module: nn.Module, channels: int = 1) -> None:
    """Makes what a layer says of its size agree with its weights; depthwise ones stay depthwise."""
    if isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels > 1:
            module.groups = channels * module.in_channels // module.out_channels
        module.out_channels = channels
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        module.num_features = channels
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = (channels,)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = channels


def reset_weights(model: nn.Module) -> None:
    """Draws every layer's weights anew, as a builder would; batch norms start neutral.

    Layers draw by their own `reset_parameters`; convolutions then as He et al. 2015
    (arXiv:1502.01852), as torchvision's VGG, ResNet and MobileNet do. Parameters outside layers
    (ConvNeXt's scales, say) stay.
    """
    for module in model.modules():
        own = "_" if isinstance(module, nn.MultiheadAttention) else ""
        reset = getattr(module, f"{own}reset_parameters", None)
        if callable(reset):
            reset()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
