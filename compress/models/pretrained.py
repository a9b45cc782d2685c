"""Weights that a network begins with: of a file, of torchvision, or of timm."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compress.data.input_spec import Channels
from compress.models.builders import weight_conversion
from compress.models.checkpoint import load_into, read_checkpoint
from compress.models.head import belongs, head_of
from compress.models.offered_weights import of_timm, of_torchvision, untrained
from compress.models.own_input import (
    OwnInput,
    check_noted,
    library_input,
    noted_input,
    torchvision_input,
)
from compress.models.weight_names import StateDicts, fitted
from compress.models.weight_sources import TIMM, TORCHVISION, is_file
from compress.utils.errors import UserError
from compress.utils.settings import sides


@dataclass(frozen=True)
class Pretrained:
    """Weights as they were found, not yet a network's."""

    shown: str  # what they are called: a file's name, or as in the recipe
    path: Path  # for messages
    state_dicts: StateDicts
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, weights: str, builder: str, path: Path | None) -> "Pretrained":
        """Read a file, or have torchvision or timm give theirs.

        Args:
            weights: as a recipe names them.
            builder: of the network that they are for.
            path: of the file, where it is one.

        Raises:
            UserError: not there, damaged, or not to be downloaded here: which file to get.
        """
        if path is not None:
            return cls(path.name, path, *read_checkpoint(path))
        tensors = of_timm(builder) if weights == TIMM else of_torchvision(weights)
        return cls(weights, Path(weights), {"": tensors}, {})

    @classmethod
    def foreseen(cls, weights: str, builder: str) -> "Pretrained":
        """Return a file, or in the place of what would be downloaded an untrained network's.

        Names and shapes are those of the weights, so that it is seen whether they fit.

        Raises:
            UserError: there are no such weights.
        """
        if is_file(weights):
            return cls.read(weights, builder, Path(weights))
        return cls(weights, Path(weights), {"": untrained(weights, builder)}, {})


@dataclass(frozen=True)
class FullInput:
    """What a network takes of an image; nothing is left open."""

    size: tuple[int, int]  # height and width in pixels
    mean: Sequence[float]
    std: Sequence[float]
    channels: Channels


def input_of(
    found: Pretrained,
    network: nn.Module,
    builder: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    image_size: int | Sequence[int] | None,
) -> tuple[FullInput, list[str]]:
    """Return what images a network that begins with weights takes, and a note on who says so.

    Args:
        network: of the builder.
        mean, std, image_size: what a recipe says, before all others; then the weights' own account
            counts, then the library's that the network is of.

    Raises:
        UserError: nobody says.
    """
    own, who = _own_input(found, network, builder)
    if mean is None or std is None:
        if own is None:
            raise UserError(
                f"{found.shown} does not say by which mean and std its images were normalised: "
                "give mean and std beside weights (those of most ImageNet weights are "
                "[0.485, 0.456, 0.406] and [0.229, 0.224, 0.225])."
            )
        check_noted(own, found.shown)
        mean, std = own.mean, own.std
        notes = [f"mean and std are {who}'s: {found.shown} says none"] if who else []
    else:
        notes = []
    if image_size is None and (own is None or own.size is None):
        raise UserError(f"{found.shown} does not say for what size of images: give image_size.")
    size = own.size if image_size is None and own else sides(image_size or 0)
    assert size is not None
    channels: Channels = own.channels if own and len(own.mean) == len(mean) else "rgb"
    return FullInput(size, mean, std, "grey" if len(mean) == 1 else channels), notes


def _own_input(found: Pretrained, network: nn.Module, builder: str) -> tuple[OwnInput | None, str]:
    """Return what the weights say of their images, or who else does; None: nobody."""
    if found.shown.startswith(TORCHVISION):
        return torchvision_input(network, found.shown), ""
    if noted := noted_input(found.metadata):
        return noted, ""
    return library_input(network, builder), "" if found.shown == TIMM else builder


def begin_with(
    found: Pretrained,
    model: nn.Module,
    builder: str,
    head: Sequence[str],
    images: Callable[[], Tensor],
    same_classes: bool = False,
) -> list[str]:
    """Give a network the weights, in place, except its head's; return what is to be said of it.

    A head of the same shape is left out, too: that it fits says nothing of what it knows.

    Args:
        head: as `head_of` takes it. What is named begins anew in any case.
        images: makes some that the network is for (n, channels, height, width), normalised: a
            builder that converts weights may ask.
        same_classes: whether they say that they are of the same classes in the same order. Their
            head is taken then.

    Raises:
        UserError: weights of another network or width.
    """
    left_out = () if same_classes and not head else head_of(model, head)
    tensors, notes = fitted(found.state_dicts, model)
    unused = [name for name in tensors if belongs(name, left_out)]
    tensors = converted(_without(tensors, left_out), model, builder, images)
    load_into(model, _with_fresh_head(tensors, model, left_out), found.path)
    if not left_out:
        return [f"begins with {found.shown}, the head too: it is of the same classes", *notes]
    begins = f"begins with {found.shown}, except its head ({', '.join(left_out)})"
    if unused:
        why = "" if head else ", being of other classes"
        begins += f": {', '.join(unused)} of the file are left out{why}"
    return [begins, *notes]


def _without(tensors: Mapping[str, Tensor], head: Sequence[str]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not belongs(name, head)}


def _with_fresh_head(
    tensors: Mapping[str, Tensor], model: nn.Module, head: Sequence[str]
) -> dict[str, Tensor]:
    """Return a file's tensors with the head's that the network has now."""
    fresh = {name: x for name, x in model.state_dict().items() if belongs(name, head)}
    return _without(tensors, head) | fresh


def converted(
    tensors: dict[str, Tensor], model: nn.Module, builder: str, images: Callable[[], Tensor]
) -> dict[str, Tensor]:
    """Return weights as a network takes them: its builder may turn others into such.

    Args:
        images: makes some that the network is for (n, channels, height, width), normalised.

    Raises:
        UserError: the builder cannot turn them.
    """
    prepare = weight_conversion(builder)
    if prepare is None:
        return tensors
    shown = images()
    try:
        return prepare(model, tensors, shown)
    except Exception as error:  # whatever somebody's code raises
        raise UserError(
            f"prepare_weights, beside {builder}, failed on these weights ({error}): mend it, or "
            "give weights that fit as they are."
        ) from error
