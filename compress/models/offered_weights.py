"""Weights that libraries offer for their networks: torchvision by a name, timm by the network's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.models.own_input import torchvision_weights
from compress.models.weight_sources import TIMM
from compress.utils.errors import UserError


def of_torchvision(name: str) -> dict[str, Tensor]:
    """Return weights of torchvision's, downloaded where they are not here yet.

    Args:
        name: `torchvision:…`.

    Raises:
        UserError: there are none of that name, no way to reach them, or what came is damaged.
    """
    weights = torchvision_weights(name)
    place = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    with _downloading(
        f"{name} could not be downloaded from {weights.url}",
        f"Download that file elsewhere and put it at {place}, or give its path as weights.",
    ):
        return dict(weights.get_state_dict(progress=True, check_hash=True))


def of_timm(builder: str) -> dict[str, Tensor]:
    """Return the weights that timm has for a network by its tag, or by its usual one.

    Raises:
        UserError: no network of timm's, none of its weights, no way to reach them, or what came is
            damaged.
    """
    name, own = _timm_config(builder)
    import timm

    where = f"https://huggingface.co/{own.hf_hub_id}" if own.hf_hub_id else own.url
    with _downloading(
        f"timm's weights of {name} could not be downloaded",
        f"Download model.safetensors from {where} elsewhere and give its path as weights.",
    ):
        return dict(timm.create_model(name, pretrained=True).state_dict())


def untrained(weights: str, builder: str) -> dict[str, Tensor]:
    """Return tensors named and shaped as offered weights, of a network that knows nothing.

    Args:
        weights: `torchvision:…` or `timm`.
        builder: of the network that they are for.

    Raises:
        UserError: there are no such weights, or not of a network for images' classes.
    """
    if weights == TIMM:
        name, _ = _timm_config(builder)
        import timm

        return dict(timm.create_model(name, pretrained=False).state_dict())
    from torchvision import models

    kind = type(torchvision_weights(weights))
    for name in models.list_models(module=models):
        if models.get_model_weights(name) is kind:
            return dict(models.get_model(name, weights=None).state_dict())
    raise UserError(f"{weights} is of no image classifier of torchvision's: name one that is.")


def _timm_config(builder: str) -> tuple[str, Any]:
    """Return a network's name in timm, and what timm says of its weights.

    Raises:
        UserError: no network of timm's, or none of its weights.
    """
    module, _, name = builder.partition(":")
    if module != TIMM:
        raise UserError(f"weights: timm are for a network of timm's (timm:NAME), not {builder}.")
    import timm

    own = timm.models.get_pretrained_cfg(name)
    if own is None or not own.has_weights:
        raise UserError(f"timm offers no weights for {name}: give a file.")
    return name, own


@contextmanager
def _downloading(failed: str, advice: str) -> Iterator[None]:
    """Turns whatever a download ends with, or reading what came, into what to do about it."""
    try:
        yield
    except Exception as error:  # of whatever libraries download, unpack and check it
        first = str(error).partition("\n")[0][:200]
        raise UserError(f"{failed} ({first}). {advice}") from error
