"""The shapes of a torch network's layers; of an ONNX file's, see `compress.measure.file_shapes`."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from compress.measure.layer_times import LayerShape


def layer_shapes(model: nn.Module, example: Tensor) -> dict[str, LayerShape]:
    """Every convolution and linear layer, in the order of execution, as the runtime will see it."""
    shapes: dict[str, LayerShape] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Linear):
            shapes[name] = LayerShape(module.in_features, module.out_features)
        elif isinstance(module, nn.Conv2d):
            shapes[name] = LayerShape(
                module.in_channels,
                module.out_channels,
                _pair(module.kernel_size),
                _pair(module.stride),
                _padding(module),
                _pair(module.dilation),
                module.groups,
                _pair(inputs[0].shape[2:]),
            )

    hooks = [
        module.register_forward_pre_hook(lambda m, x, name=name: record(name, m, x))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _pair(values: Iterable[int]) -> tuple[int, int]:
    first, second = (int(value) for value in values)
    return first, second


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    """At each side; where "same" is one more at one side (even kernels), that one is left out."""
    if module.padding == "same":
        sizes = zip(module.dilation, module.kernel_size, strict=True)
        return _pair(dilation * (kernel - 1) // 2 for dilation, kernel in sizes)
    return (0, 0) if module.padding == "valid" else _pair(module.padding)  # type: ignore[arg-type]
