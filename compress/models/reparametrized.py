"""Layers that compute their weights anew from others at every call: weight and spectral norm."""

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def reparametrized(model: nn.Module) -> str | None:
    """Return which layer computes its weights, and what to do; None: none does."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            (weight, (first, *_)), *_ = module.parametrizations.items()
            kind, fold = type(first).__name__, f"parametrize.remove_parametrizations(…, {weight!r})"
        else:
            hooks = module._forward_pre_hooks.values()
            old = [x for x in hooks if isinstance(x, WeightNorm | SpectralNorm)]
            if not old:
                continue
            kind = type(old[0]).__name__
            fold = f"remove_{'weight' if isinstance(old[0], WeightNorm) else 'spectral'}_norm(…)"
        return (
            f"layer {name!r} is reparametrized ({kind.lstrip('_')}): fold it (torch.nn.utils."
            f"{fold}), save the weights again, and build the network without it"
        )
    return None
