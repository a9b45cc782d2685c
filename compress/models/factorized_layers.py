"""What a factorized layer is made of: its form, its ranks, its layers in a row.

`methods.factorize` chooses the ranks and the weights; a saved network is built again from these.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Form = Literal["svd", "tucker2", "spatial"]


def forms(layer: nn.Module) -> tuple[Form, ...]:
    """The forms that a layer admits, none for most.

    Subclasses of `nn.Linear` and `nn.Conv2d` admit none: they may use their weight in another way
    (attention reads its output layer's, a standardised convolution rescales it).
    """
    if type(layer) is nn.Linear:
        return ("svd",)
    if type(layer) is nn.Conv2d and layer.groups == 1:
        if layer.kernel_size == (1, 1):
            return ("svd",)
        return ("tucker2",) if 1 in layer.kernel_size else ("tucker2", "spatial")
    return ()


def full_ranks(layer: nn.Module, form: Form) -> tuple[int, ...]:
    """The ranks at which nothing is lost: (r,) for svd and spatial, (r_in, r_out) for tucker2.

    - svd: min(in, out)
    - tucker2: min(in, out·kh·kw) and min(out, in·kh·kw)
    - spatial: min(in·kh, out·kw)

    Raises:
        ValueError: the layer does not admit the form.
    """
    weight = admitted(layer, form).weight
    return tuple(min(matrix.shape) for matrix in unfoldings(weight.to("meta"), form))


def empty(layer: nn.Module, form: Form, ranks: Sequence[int]) -> nn.Sequential:
    """The factorized layer with arbitrary weights, on the layer's device and in its type.

    Only the layer's settings and shapes matter, so that a saved network can be built again. The
    children are named, from input to output:

    - svd: reduce, restore
    - tucker2: reduce, core, restore
    - spatial: vertical, horizontal

    The window (stride, padding, dilation, padding mode) is on svd's reduce, on tucker2's core, and
    by direction on the two of spatial; the bias is on the last child.

    Raises:
        ValueError: the layer does not admit the form, or the ranks are out of range.
    """
    full = full_ranks(layer, form)
    if len(ranks) != len(full) or not all(1 <= r <= f for r, f in zip(ranks, full, strict=True)):
        limits = " and ".join(f"1 to {f}" for f in full)
        raise ValueError(f"The ranks of {form} on {layer} are {limits}, not {tuple(ranks)}.")
    weight = admitted(layer, form).weight
    new = structure(layer, form, ranks).to(weight.dtype).to_empty(device=weight.device)
    return new.train(layer.training)


def replace(model: nn.Module, name: str, new: nn.Module) -> None:
    """Puts `new` in the place of the submodule with this dotted name, and in no other.

    Raises:
        ValueError: the model has no such submodule.
    """
    if not name or name not in dict(model.named_modules(remove_duplicate=False)):
        raise ValueError(f"{type(model).__name__} has no submodule {name!r}.")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def admitted(layer: nn.Module, form: Form) -> nn.Linear | nn.Conv2d:
    admitted = forms(layer)
    if form not in admitted or not isinstance(layer, nn.Linear | nn.Conv2d):
        raise ValueError(f"{layer} admits {' and '.join(admitted) or 'no form'}, not {form}.")
    return layer


def unfoldings(weight: Tensor, form: Form) -> list[Tensor]:
    """The matrices whose ranks the form reduces, in the order of its ranks."""
    if form == "svd":
        return [weight.flatten(1)]
    if form == "tucker2":
        return [weight.transpose(0, 1).flatten(1), weight.flatten(1)]
    return [weight.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)]


def structure(layer: nn.Module, form: Form, ranks: Sequence[int]) -> nn.Sequential:
    """The layers of a form without memory: on the meta device they cost nothing, not even seeds."""
    first, last = ranks[0], ranks[-1]
    children: dict[str, nn.Module]
    with torch.device("meta"):
        if isinstance(layer, nn.Linear):
            children = {
                "reduce": nn.Linear(layer.in_features, first, bias=False),
                "restore": nn.Linear(last, layer.out_features, bias=layer.bias is not None),
            }
        else:
            assert isinstance(layer, nn.Conv2d)
            inputs, outputs, bias = layer.in_channels, layer.out_channels, layer.bias is not None
            if form == "svd":
                children = {
                    "reduce": nn.Conv2d(inputs, first, bias=False, **_window(layer, (0, 1))),
                    "restore": nn.Conv2d(last, outputs, 1, bias=bias),
                }
            elif form == "tucker2":
                children = {
                    "reduce": nn.Conv2d(inputs, first, 1, bias=False),
                    "core": nn.Conv2d(first, last, bias=False, **_window(layer, (0, 1))),
                    "restore": nn.Conv2d(last, outputs, 1, bias=bias),
                }
            else:
                children = {
                    "vertical": nn.Conv2d(inputs, first, bias=False, **_window(layer, (0,))),
                    "horizontal": nn.Conv2d(last, outputs, bias=bias, **_window(layer, (1,))),
                }
    return nn.Sequential(OrderedDict(children))


def _window(layer: nn.Conv2d, axes: tuple[int, ...]) -> dict[str, Any]:
    """How a convolution moves along these axes (0 vertical, 1 horizontal); along others as 1×1."""

    def along(values: tuple[int, ...], otherwise: int) -> tuple[int, ...]:
        return tuple(v if axis in axes else otherwise for axis, v in enumerate(values))

    padding = layer.padding
    return {
        "kernel_size": along(layer.kernel_size, 1),
        "stride": along(layer.stride, 1),
        # "same" and "valid" mean the right thing along each axis by themselves.
        "padding": padding if isinstance(padding, str) else along(padding, 0),
        "dilation": along(layer.dilation, 1),
        "padding_mode": layer.padding_mode,
    }
