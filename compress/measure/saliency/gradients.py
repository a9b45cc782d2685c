"""Saliency from gradients, of networks in torch, by captum.

Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391. Deconvolution: Zeiler & Fergus 2014,
arXiv:1311.2901.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.measure.saliency.maps import as_maps
from compress.utils.errors import UserError

BATCH = 16
# What deconvolution knows a way back through: a chain of these, each taking the one before it.
CHAIN = (
    *(nn.Conv2d, nn.Linear, nn.ReLU, _BatchNorm, nn.MaxPool2d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Identity),
)


def grad_cam(model: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Grad-CAM on the last feature map, brought to the input's size bilinearly.

    Args:
        images: float32 (n, channels, height, width), normalised.
        targets: int64 (n,), the class to explain of each.

    Returns:
        Maps, float32 (n, height, width).

    Raises:
        UserError: the network has no feature map.
    """
    from captum.attr import LayerAttribution, LayerGradCam  # late: brings matplotlib, seconds

    method = LayerGradCam(model.eval(), last_feature_map(model, images[:1]))

    def explain(shown: Tensor, classes: Tensor) -> Tensor:
        coarse = method.attribute(shown, classes, relu_attributions=True)
        return LayerAttribution.interpolate(coarse, shown.shape[2:], "bilinear")[:, 0]

    return _in_batches(explain, images, targets)


def deconvolution(model: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Deconvolution, the magnitudes of the three colours added up; arguments as for `grad_cam`.

    Raises:
        UserError: the network is no chain of convolutions and ReLUs, as VGG is.
    """
    if reason := _no_chain(model):
        raise UserError(
            f"Deconvolution needs a chain of convolutions and ReLUs, as VGG is; here {reason}. "
            "Use grad_cam or occlusion."
        )
    from captum.attr import Deconvolution

    method = Deconvolution(model.eval())

    def explain(shown: Tensor, classes: Tensor) -> Tensor:
        with warnings.catch_warnings():  # captum says each time that it will remove its hooks
            warnings.simplefilter("ignore")
            return method.attribute(shown, classes).abs().sum(1)  # type: ignore[no-any-return]

    return _in_batches(explain, images, targets)


def _in_batches(
    explain: Callable[[Tensor, Tensor], Tensor], images: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    raw = [
        explain(
            torch.from_numpy(images[start : start + BATCH]),
            torch.from_numpy(targets[start : start + BATCH]),
        )
        .detach()
        .numpy()
        for start in range(0, len(images), BATCH)
    ]
    return as_maps(np.concatenate(raw))


def last_feature_map(model: nn.Module, images: np.ndarray) -> nn.Module:
    """The module that gives the last convolution's map its final form: behind its batch norm, its
    activation and the shortcut that is added to it, and before any pooling.

    Args:
        images: float32 (n, channels, height, width); the network is run on them once.

    Raises:
        UserError: no convolution gives more than one place.
    """
    finished: list[tuple[nn.Module, torch.Size]] = []  # in this order

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output[0, 0].numel() > 1:
            finished.append((module, output.shape))

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(torch.from_numpy(images))
    finally:
        for hook in hooks:
            hook.remove()
    convolved = [shape for module, shape in finished if _convolves(module)]
    if not convolved:
        raise UserError(
            f"Grad-CAM needs a feature map, and no convolution of {type(model).__name__} gives one "
            "of more than one place. Use occlusion."
        )
    return [module for module, shape in finished if shape == convolved[-1]][-1]


def _convolves(module: nn.Module) -> bool:
    """By its weights, as binary convolutions are no nn.Conv2d."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 4


def _no_chain(model: nn.Module) -> str | None:
    """What in the network is no link of such a chain, in words."""
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:  # whatever somebody's forward raises when it is traced
        return f"the network's course cannot be followed ({type(error).__name__})"
    for node in graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if not isinstance(module, CHAIN):
                return f"there is {type(module).__name__}"
        elif node.op.startswith("call") and node.target not in (torch.flatten, "flatten"):
            return f"there is {getattr(node.target, '__name__', node.target)}"
    return None
