"""Turns convolutions of a trained network into binary blocks, in place."""

from collections.abc import Iterator, Sequence

from torch import nn

from compress.models.binary_layers import CHANNELS, BinaryBlock, binarize_layer, binary_layers
from compress.utils.seeding import torch_seed

LARGEST_KERNEL = 7


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return all real convolutions but the first, which sees the image: colours have no signs."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return dict(list(found.items())[1:])


def obstacle(model: nn.Module, name: str) -> str | None:
    """Say why a convolution cannot become binary, in words that follow its name; None if it can."""
    parent, _, _ = name.rpartition(".")
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Conv2d):
        return "is no convolution"
    if not isinstance(model.get_submodule(parent), nn.Sequential | BinaryBlock):
        return (
            "stands in no nn.Sequential, so that what follows it is not known; distil a binary "
            "student instead (students.binary)"
        )
    if layer.groups != 1:
        return f"has {layer.groups} groups, the popcount kernel knows none"
    if layer.dilation != (1, 1):
        return f"has a dilation of {layer.dilation}, only 1 is trained and tested"
    square = all(len(set(x)) == 1 for x in (layer.kernel_size, layer.stride, layer.padding))
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or not square:
        return "is padded or strided otherwise than with zeros and alike in both directions"
    if layer.padding[0] != layer.kernel_size[0] // 2 or layer.kernel_size[0] % 2 == 0:
        return "does not keep its map's size, so that nothing fits around it as a shortcut"
    return _kernel_fault(layer.in_channels, layer.kernel_size[0], layer.stride[0])


def binary_faults(model: nn.Module) -> Iterator[str]:
    """Yield the binary layers that no kernel can run, by name."""
    for name, layer in binary_layers(model).items():
        _, inputs, _, kernel = layer.weight.shape
        if reason := _kernel_fault(inputs, kernel, layer.stride):
            yield f"{name} {reason}"


def binarize_layers(model: nn.Module, names: Sequence[str], seed: int) -> None:
    """Put binary blocks in the place of convolutions; what goes around them may begin at random."""
    with torch_seed(seed, "binary blocks"):
        for name in names:
            binarize_layer(model, name)


def _kernel_fault(inputs: int, kernel: int, stride: int) -> str | None:
    """Say what OpenVINO 2026.4 computes wrongly or not at all, found by trying."""
    if inputs % CHANNELS:
        return f"has {inputs} input channels, the kernel reads bytes: a multiple of {CHANNELS}"
    if kernel > LARGEST_KERNEL:
        return f"has a kernel of {kernel} x {kernel}, {LARGEST_KERNEL} is the largest that compiles"
    if stride & (stride - 1) and kernel > stride:
        return f"has a stride of {stride}: wider kernels are right with 1, 2 and 4 only"
    return None
