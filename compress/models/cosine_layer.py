"""A head that looks at directions alone: its logits are scaled cosines, of a length that is known.

Margins between classes (CosFace, ArcFace) are angles, and mean something only there.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.factorized_layers import replace
from compress.utils.errors import UserError


class CosineLinear(nn.Linear):
    """The cosine of an image's features and each class's weights, times a scale; no bias."""

    scale: Tensor

    def __init__(self, in_features: int, out_features: int, scale: float = 1.0) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (…, classes) between -scale and scale."""
        return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1))


class _Deployed(nn.Module):
    """The same with its weights brought to their length once: a plain product of matrices."""

    weight: Tensor

    def __init__(self, layer: CosineLinear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.scale * F.normalize(layer.weight, dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x, dim=-1), self.weight)


def cosine_head(model: nn.Module, name: str, scale: float = 1.0) -> None:
    """Put a head of cosines in the place of a linear layer; its weights are drawn anew.

    Raises:
        UserError: the layer is none that this could be.
    """
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise UserError(
            f"margin: the head {name!r} is a {type(layer).__name__}, and cosines are those of a "
            "linear layer: name one with head, or remove margin."
        )
    new = CosineLinear(layer.in_features, layer.out_features, scale)
    replace(model, name, new.to(layer.weight).train(layer.training))


@torch.no_grad()
def with_weights_of_length(model: nn.Module) -> nn.Module:
    """Return the network, or a copy that computes the same, for evaluation: see `_Deployed`."""
    layers = [name for name, m in model.named_modules() if isinstance(m, CosineLinear)]
    if not layers:
        return model
    model = copy.deepcopy(model)
    for name in layers:
        replace(model, name, _Deployed(model.get_submodule(name)))  # type: ignore[arg-type]
    return model
