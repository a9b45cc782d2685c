"""How many channels a network takes; networks for RGB made into ones for grey images."""

import copy

import torch
from torch import nn

Shape = tuple[int, int, int]


def takes(model: nn.Module, image: Shape) -> bool:
    """Whether the network runs on images of this shape (channels, height, width)."""
    trial = copy.deepcopy(model).eval()
    try:
        with torch.no_grad():
            trial(torch.zeros(2, *image))
    except Exception:  # whatever somebody's network raises
        return False
    return True


def for_one_channel(model: nn.Module, image: Shape) -> nn.Module:
    """Return the network with a first convolution of one input channel, unless it takes grey.

    Its weights are summed over the three channels, so that it answers a grey image as it answered
    the same in RGB. Fresh weights stay what they should be, too: the sum of three draws has the
    variance of one draw for a third of the inputs.

    Args:
        image: channels (1), height and width of its input.
    """
    if takes(model, image):
        return model
    first = first_convolution(model)
    if first is not None and first.in_channels == 3 and first.groups == 1:
        # In place: it may be of a class of its own, which pads or scales in its own way.
        first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
        first.in_channels = 1
    return model


def first_convolution(model: nn.Module) -> nn.Conv2d | None:
    """The first of its layers that is a convolution, in the order that they were named in."""
    return next((x for x in model.modules() if isinstance(x, nn.Conv2d)), None)


def fault(model: nn.Module, image: Shape) -> str | None:
    """As `other_channels`, of any network; it is run only where its first layer asks for that."""
    first = first_convolution(model)
    if (first is not None and first.in_channels == image[0]) or takes(model, image):
        return None
    return other_channels(model, image)


def other_channels(model: nn.Module, image: Shape) -> str | None:
    """Why a network does not run on images of this shape, where its channels are the reason.

    Returns:
        A sentence that follows the network's name; None: they are not the reason.
    """
    channels, height, width = image
    other = 4 - channels  # the other one of 1 and 3
    if takes(model, (other, height, width)):
        say = (
            "channels: grey, with mean and std of one number each"
            if other == 1
            else "channels: rgb (or bgr), with mean and std of three numbers each"
        )
        return f"takes images of {_channels(other)}, and is to get {channels}: say {say}"
    first = first_convolution(model)
    if first is None or first.in_channels in (1, 3):
        return None
    return (
        f"takes {_channels(first.in_channels)}: images have 3 (channels: rgb or bgr) or 1 "
        "(channels: grey)"
    )


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
