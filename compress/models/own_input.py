"""What images a network was trained on, by its library's account or its weights file's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.models.weight_sources import TORCHVISION
from compress.utils.errors import UserError
from compress.utils.settings import check_normalisation

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import WeightsEnum

    from compress.data.input_spec import Channels, Dtype, Fit, InputSpec, Layout


@dataclass(frozen=True)
class OwnInput:
    """What a network takes by its own account."""

    size: tuple[int, int] | None  # height and width in pixels; None: it does not say
    mean: Sequence[float]
    std: Sequence[float]
    channels: "Channels" = "rgb"
    dtype: "Dtype" = "float32"
    layout: "Layout" = "nchw"
    unsaid: tuple[str, ...] = ()  # what a recipe has no words for: "crop_pct 0.9"
    fit: "Fit | None" = None  # None: it does not say

    @classmethod
    def of_spec(cls, spec: "InputSpec") -> "OwnInput":
        """Return what a file of ours says."""
        return cls(
            spec.size,
            spec.mean,
            spec.std,
            spec.channels,
            dtype=spec.dtype,
            layout=spec.layout,
            fit=spec.fit,
        )


def torchvision_input(network: "nn.Module", weights: str) -> OwnInput:
    """Return what torchvision says of weights that it offers.

    Args:
        weights: `torchvision:…`.

    Raises:
        UserError: it has no such weights.
    """
    return _of_preset(network, torchvision_weights(weights))


def library_input(network: "nn.Module", builder: str) -> OwnInput | None:
    """Return what timm says of its network, or torchvision of the weights that it offers for it."""
    if own := getattr(network, "pretrained_cfg", None):
        return _of_timm(own)
    if not type(network).__module__.startswith("torchvision.models"):
        return None
    name = builder.rpartition(":" if ":" in builder else ".")[2]  # maybe of who imports it
    from torchvision.models import get_model_weights

    try:
        offered = get_model_weights(name)
    except ValueError:  # no classifier of torchvision's own
        return None
    return _of_preset(network, next(iter(offered)))


def noted_input(metadata: Mapping[str, Any]) -> OwnInput | None:
    """Return what a weights file's metadata say: our own, or `mean`, `std` and `size`.

    Numbers may be a list, or text with commas or blanks between them.
    """
    spec = metadata.get("spec")
    if isinstance(spec, Mapping) and {"height", "width", "mean", "std"} <= spec.keys():
        sides = (spec["height"], spec["width"])
        channels = spec.get("channels", "rgb")
        return OwnInput(sides, spec["mean"], spec["std"], channels, fit=spec.get("fit"))
    mean, std = _numbers(metadata.get("mean")), _numbers(metadata.get("std"))
    if not mean or len(mean) != len(std):
        return None
    order = str(metadata.get("channel_order", metadata.get("channels", "rgb"))).lower()
    side = metadata.get("size")
    size = (side, side) if isinstance(side, int) else None
    if len(mean) == 1:
        return OwnInput(size, mean, std, "grey")
    return OwnInput(size, mean, std, "bgr" if order == "bgr" else "rgb")


def check_noted(own: OwnInput, name: str) -> None:
    """Refuse a noted mean and std that are not of pixels from 0 to 1, where they would be taken.

    Args:
        name: of the file that notes them.

    Raises:
        UserError: what is wrong.
    """
    try:
        check_normalisation(own.mean, own.std)
    except ValueError as error:
        raise UserError(
            f"{name} notes how its images were normalised, and that cannot be used: {error}. Give "
            "mean and std in the recipe."
        ) from error


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, int | float):
        value = [value]
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value.strip(" ()[]"))
    try:
        return tuple(float(x) for x in value or ())
    except (TypeError, ValueError):
        return ()


def torchvision_weights(name: str) -> "WeightsEnum":
    """Return weights that torchvision offers under a name, `torchvision:…`.

    Raises:
        UserError: there are none.
    """
    from torchvision.models import get_weight

    try:
        return get_weight(name.removeprefix(TORCHVISION))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"torchvision has no {name!r}: {error}") from error


def _of_timm(own: Any) -> OwnInput:
    from timm.data.config import resolve_data_config

    told = resolve_data_config(pretrained_cfg=own)  # type: ignore[no-untyped-call]
    height, width = told["input_size"][1:]
    unsaid = _unsaid(told["crop_pct"], told["interpolation"])
    if told["crop_mode"] != "center":
        unsaid += (f"crop_mode {told['crop_mode']}",)
    return OwnInput((height, width), told["mean"], told["std"], unsaid=unsaid)


def _of_preset(network: "nn.Module", weights: "WeightsEnum") -> OwnInput:
    preset = weights.transforms()
    (size,), (scaled,) = preset.crop_size, preset.resize_size
    mean, std = tuple(preset.mean), tuple(preset.std)
    if hasattr(network, "transform_input"):
        # Their builders turn it on with these weights: ImageNet's mean and std become 0.5.
        mean = std = (0.5, 0.5, 0.5)
    unsaid = _unsaid(size / scaled, preset.interpolation.value)
    return OwnInput((size, size), mean, std, unsaid=unsaid)


def _unsaid(crop: float, interpolation: str) -> tuple[str, ...]:
    """Return what differs from how images are brought to the input here.

    Args:
        crop: share of the scaled image's shorter side that is seen.
    """
    seen = () if crop == 1 else (f"crop_pct {crop:.3g}",)
    return seen if interpolation == "bilinear" else (*seen, f"interpolation {interpolation}")
