"""Binary layers: sign activations and weights, trained with approximate gradients.

A binary convolution multiplies signs, which hardware does with xnor and popcount on packed bits.
Training keeps real weights, of which the signs are taken in every step. Sources: XNOR-Net
(Rastegari et al. 2016, arXiv:1603.05279), Bi-Real Net (Liu et al. 2018, arXiv:1808.00278), ReActNet
(Liu et al. 2020, arXiv:2003.03488).
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CHANNELS = 8  # OpenVINO's kernel reads input channels in bytes: other counts give wrong answers


class _Sign(torch.autograd.Function):
    """+1 where x > 0, else -1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x > 0, 1.0, -1.0).to(x.dtype)


class _ApproxSign(_Sign):
    """The gradient is that of a piecewise parabola (Bi-Real Net)."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return gradient * (2 - 2 * x.abs()).clamp(min=0)


class _ClippedIdentity(_Sign):
    """The gradient passes where |x| <= 1 (the straight-through one)."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


def approx_sign(x: Tensor) -> Tensor:
    """Signs of activations: +1 where x > 0, else -1; d/dx = max(0, 2 - 2 |x|)."""
    return _ApproxSign.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def sign(x: Tensor) -> Tensor:
    """Signs of weights: +1 where x > 0, else -1; d/dx = 1 where |x| <= 1, else 0."""
    return _ClippedIdentity.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class BinaryConv2d(nn.Module):
    """conv(sign(x - threshold), sign(weight)) times a scale a channel, padded with zeros.

    The threshold a channel is learned (ReActNet's RSign); the scale is the mean of |weight|
    (XNOR-Net). With `binary_weights` off the weights stay real: the first stage of training.

    Args:
        in_channels: for the kernel a multiple of 8 (`binarize` refuses others).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        self.threshold = nn.Parameter(torch.zeros(in_channels))
        self.binary_weights = True
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.threshold)

    def scale(self) -> Tensor:
        """(out_channels, 1, 1): the mean of |weight| a channel; no gradient (ReActNet)."""
        return self.weight.detach().abs().mean((1, 2, 3))[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        signs = approx_sign(x - self.threshold[:, None, None])
        if not self.binary_weights:
            return F.conv2d(signs, self.weight, None, self.stride, self.padding)
        products = F.conv2d(signs, sign(self.weight), None, self.stride, self.padding)
        return products * self.scale()

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}"


class RPReLU(nn.Module):
    """PReLU whose knee is learned: slope(x - knee) + lift, all a channel (ReActNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.knee = nn.Parameter(torch.empty(channels))
        self.slope = nn.Parameter(torch.empty(channels))
        self.lift = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.knee)
        nn.init.constant_(self.slope, 0.25)
        nn.init.zeros_(self.lift)

    def forward(self, x: Tensor) -> Tensor:
        shifted = x - self.knee[:, None, None]
        return F.prelu(shifted, self.slope) + self.lift[:, None, None]


class Shortcut(nn.Module):
    """What goes around a binary convolution in real numbers, shaped like its output.

    Strides average; more channels repeat the input (ReActNet), fewer average groups of it; where
    neither divides, or if `learned`, a real 1 x 1 convolution (Bi-Real Net).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, learned: bool = False
    ) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        self.repeats = out_channels // in_channels
        self.groups = in_channels // out_channels
        self.projection: nn.Module | None = None
        if in_channels == out_channels:
            return
        if learned or (in_channels % out_channels and out_channels % in_channels):
            self.projection = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool.stride != 1:
            x = self.pool(x)
        if self.projection is not None:
            return self.projection(x)  # type: ignore[no-any-return]
        if self.repeats > 1:
            return torch.cat([x] * self.repeats, 1)
        if self.groups > 1:
            parts: Tensor = x.unflatten(1, (-1, self.groups))  # type: ignore[no-untyped-call]
            return parts.mean(2)
        return x


class BinaryBlock(nn.Module):
    """RPReLU(norm(binary convolution) + shortcut): the block that binary networks are made of."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        learned_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.conv = BinaryConv2d(in_channels, out_channels, kernel, stride, kernel // 2)
        self.norm = nn.BatchNorm2d(out_channels)
        self.shortcut = Shortcut(in_channels, out_channels, stride, learned_shortcut)
        self.activation = RPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)) + self.shortcut(x))  # type: ignore[no-any-return]


def binary_layers(model: nn.Module) -> dict[str, BinaryConv2d]:
    """The binary convolutions by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, BinaryConv2d)}


def use_binary_weights(model: nn.Module, binary: bool) -> None:
    """Second stage of training (and deployment), or first: weights real, only activations signs."""
    for layer in binary_layers(model).values():
        layer.binary_weights = binary


class _Signs(nn.Module):
    """A binary convolution with its signs taken once, as a graph states it."""

    signs: Tensor
    threshold: Tensor
    factor: Tensor
    offset: Tensor

    def __init__(self, layer: BinaryConv2d, factor: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.stride, self.padding = layer.stride, layer.padding
        self.register_buffer("signs", torch.where(layer.weight.detach() > 0, 1.0, -1.0))
        self.register_buffer("threshold", layer.threshold.detach()[:, None, None].clone())
        self.register_buffer("factor", (layer.scale() * factor[:, None, None]).clone())
        self.register_buffer("offset", offset[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.where(x > self.threshold, 1.0, -1.0)
        products = F.conv2d(signs, self.signs, None, self.stride, self.padding)
        return products * self.factor + self.offset


class _Knee(nn.Module):
    """RPReLU whose first shift went into the sum before it."""

    lift: Tensor

    def __init__(self, activation: RPReLU) -> None:
        super().__init__()
        self.slope = nn.Parameter(activation.slope.detach().clone())
        self.register_buffer("lift", activation.lift.detach()[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope) + self.lift


@torch.no_grad()
def for_deployment(model: nn.Module) -> nn.Module:
    """A copy that computes the same with signs, norms and shifts folded; for evaluation only.

    Signs are constants of ±1, a block's norm and its RPReLU's first shift one factor and offset.
    """
    model = copy.deepcopy(model).eval()
    for block in [m for m in model.modules() if isinstance(m, BinaryBlock)]:
        norm, layer, activation = block.norm, block.conv, block.activation
        if not isinstance(layer, BinaryConv2d):  # the float version of a binary network
            continue
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        offset = norm.bias - norm.running_mean * factor - activation.knee
        block.conv = _Signs(layer, factor, offset)  # type: ignore[assignment]
        block.norm = nn.Identity()  # type: ignore[assignment]
        block.activation = _Knee(activation)  # type: ignore[assignment]
    for name, layer in binary_layers(model).items():  # those outside of a block
        parent, _, child = name.rpartition(".")
        ones = torch.ones(len(layer.weight))
        setattr(model.get_submodule(parent), child, _Signs(layer, ones, torch.zeros_like(ones)))
    return model


# What a binary block takes the place of when it stands behind the convolution.
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.LeakyReLU, nn.GELU)


def binarize_layer(model: nn.Module, name: str, size: torch.Size | None = None) -> None:
    """Puts a binary block in the place of a convolution and of the norm and activation behind it.

    The block takes over the convolution's weights and the norm; what it replaces becomes identity,
    so that names stay. In a block of a binary network's float version all of that is there: only
    the convolution becomes binary.

    Args:
        size: of the weights, where the layer is to be blank and have another size than here.
    """
    parent, _, child = name.rpartition(".")
    sequence = model.get_submodule(parent)
    layer = sequence.get_submodule(child)
    assert isinstance(layer, nn.Conv2d)
    size = size or layer.weight.shape
    if isinstance(sequence, BinaryBlock):
        binary = BinaryConv2d(size[1], size[0], size[2], layer.stride[0], size[2] // 2)
        if size == layer.weight.shape:
            binary.weight.data.copy_(layer.weight.data)
        sequence.conv = binary.to(layer.weight.device)
        return
    block = BinaryBlock(size[1], size[0], size[2], layer.stride[0])
    if size == layer.weight.shape:
        block.conv.weight.data.copy_(layer.weight.data)
    names = [n for n, _ in sequence.named_children()]
    following = names[names.index(child) + 1 :]
    if following and isinstance(norm := sequence.get_submodule(following[0]), _BatchNorm):
        if size == layer.weight.shape:
            block.norm.load_state_dict(norm.state_dict())
        setattr(sequence, following.pop(0), nn.Identity())
    if following and isinstance(sequence.get_submodule(following[0]), ACTIVATIONS):
        setattr(sequence, following[0], nn.Identity())
    setattr(sequence, child, block.to(layer.weight.device))
