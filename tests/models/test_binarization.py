"""Binary layers against the papers' formulas, values and gradients written out in NumPy.

G is the gradient of the loss by a layer's output; draws lie on a grid, so that they meet
thresholds and the ends of gradients exactly.
"""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.models.binary_layers import (
    BinaryBlock,
    BinaryConv2d,
    RPReLU,
    Shortcut,
    approx_sign,
    binary_layers,
    for_deployment,
    sign,
    use_binary_weights,
)

Array = np.ndarray
seeds = st.integers(0, 999)


def grid(rng: np.random.Generator, *shape: int) -> Array:
    """Multiples of 1/4 between -2 and 2."""
    return rng.integers(-8, 9, shape) / 4


def run(layer: Callable[[Tensor], Tensor], x: Array, upstream: int = 7) -> tuple[Array, ...]:
    """The output, G and the gradient of sum(G * output) by the input; parameters get theirs."""
    entry = torch.tensor(x, requires_grad=True)
    output = layer(entry)
    gradient = np.random.default_rng(upstream).normal(size=output.shape)
    output.backward(torch.tensor(gradient))
    assert entry.grad is not None
    return output.detach().numpy(), gradient, entry.grad.numpy()


def set_to(parameter: Tensor, values: Array) -> None:
    parameter.data.copy_(torch.tensor(values))


def gradient_of(parameter: Tensor) -> Array:
    assert parameter.grad is not None
    return parameter.grad.numpy()


def close(got: Array, expected: Array | float) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


# Formulas. Maps are (n, channels, height, width).


def signs_of(x: Array) -> Array:
    return np.where(x > 0, 1.0, -1.0)


def parabola(x: Array) -> Array:
    """Bi-Real Net, eq. 8: 2 + 2x on [-1, 0), 2 - 2x on [0, 1), else 0."""
    return np.where((x >= -1) & (x < 0), 2 + 2 * x, np.where((x >= 0) & (x < 1), 2 - 2 * x, 0.0))


def windows(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def patch(padded: Array, i: int, j: int, stride: int, height: int, width: int) -> Array:
    """What the weight at (i, j) is multiplied with, one a place of the output; a view."""
    return padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride]


def padded_with_zeros(x: Array, padding: int, stride: int) -> Array:
    # More at the far ends than is read, for slices to have their length.
    around = (padding, padding + stride)
    return np.pad(x, ((0, 0), (0, 0), around, around))


def convolved(x: Array, weight: Array, stride: int, padding: int) -> Array:
    kernel = weight.shape[2]
    height, width = (windows(size, kernel, stride, padding) for size in x.shape[2:])
    padded, total = padded_with_zeros(x, padding, stride), 0.0
    for i in range(kernel):
        for j in range(kernel):
            seen = patch(padded, i, j, stride, height, width)
            total = total + np.einsum("nchw,oc->nohw", seen, weight[:, :, i, j])
    return np.asarray(total)


def convolution_gradients(
    x: Array, weight: Array, stride: int, padding: int, gradient: Array
) -> tuple[Array, Array]:
    """By the input and by the weights."""
    kernel, (height, width) = weight.shape[2], gradient.shape[2:]
    padded = padded_with_zeros(x, padding, stride)
    by_input, by_weight = np.zeros_like(padded), np.zeros_like(weight)
    for i in range(kernel):
        for j in range(kernel):
            seen = patch(padded, i, j, stride, height, width)
            by_weight[:, :, i, j] = np.einsum("nohw,nchw->oc", gradient, seen)
            back = np.einsum("nohw,oc->nchw", gradient, weight[:, :, i, j])
            patch(by_input, i, j, stride, height, width)[...] += back
    inside = slice(padding, padding + x.shape[2]), slice(padding, padding + x.shape[3])
    return by_input[:, :, inside[0], inside[1]], by_weight


def a_channel(values: Array) -> Array:
    return values[:, None, None]


def summed(gradient: Array) -> Array:
    """By a parameter that a channel shares."""
    return gradient.sum((0, 2, 3))


# Signs


@given(seeds)
def test_sign_of_activations(seed: int) -> None:
    x = grid(np.random.default_rng(seed), 3, 5)
    output, gradient, by_x = run(approx_sign, x)
    close(output, signs_of(x))
    close(by_x, gradient * parabola(x))


@given(seeds)
def test_sign_of_weights(seed: int) -> None:
    x = grid(np.random.default_rng(seed), 3, 5)
    output, gradient, by_x = run(sign, x)
    close(output, signs_of(x))
    close(by_x, np.where(np.abs(x) <= 1, gradient, 0))


@pytest.mark.parametrize("function", [sign, approx_sign])
def test_zero_is_negative_and_the_type_stays(function: Callable[[Tensor], Tensor]) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        signs = function(torch.tensor([-0.0, 0.0, 1e-30, -1e-30], dtype=dtype))
        assert signs.dtype == dtype
        assert signs.tolist() == [-1, -1, 1, -1]


# Convolution


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[BinaryConv2d, Array]:
    """A layer whose threshold and weights are drawn, and what it is given."""
    kernel = draw(st.sampled_from([1, 2, 3]))
    inputs, outputs = draw(st.sampled_from([8, 16])), draw(st.integers(1, 4))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    layer = BinaryConv2d(inputs, outputs, kernel, stride, padding).double()
    rng = np.random.default_rng(draw(seeds))
    set_to(layer.threshold, grid(rng, inputs))
    set_to(layer.weight, grid(rng, outputs, inputs, kernel, kernel))
    return layer, grid(rng, 2, inputs, draw(st.integers(3, 6)), draw(st.integers(3, 6)))


@given(convolutions(), st.booleans())
@settings(max_examples=60)
def test_binary_convolution(case: tuple[BinaryConv2d, Array], binary: bool) -> None:
    layer, x = case
    layer.binary_weights = binary
    output, gradient, by_x = run(layer, x)
    weight, shifted = layer.weight.detach().numpy(), x - a_channel(layer.threshold.detach().numpy())
    where = layer.stride, layer.padding
    if binary:  # XNOR-Net: the mean of |W|, one a filter, times the convolution of signs
        scale = a_channel(np.array([np.abs(filters).mean() for filters in weight]))
        close(output, convolved(signs_of(shifted), signs_of(weight), *where) * scale)
        by_signs, by_weight = convolution_gradients(
            signs_of(shifted), signs_of(weight), *where, gradient * scale
        )
        by_weight = np.where(np.abs(weight) <= 1, by_weight, 0)
    else:
        close(output, convolved(signs_of(shifted), weight, *where))
        by_signs, by_weight = convolution_gradients(signs_of(shifted), weight, *where, gradient)
    close(gradient_of(layer.weight), by_weight)
    close(by_x, by_signs * parabola(shifted))
    close(gradient_of(layer.threshold), -summed(by_signs * parabola(shifted)))


def test_at_the_threshold_is_negative() -> None:
    layer = BinaryConv2d(8, 1, 1)
    set_to(layer.threshold, np.linspace(-1, 1, 8))
    set_to(layer.weight, np.ones((1, 8, 1, 1)))
    x = layer.threshold.detach()[None, :, None, None]
    assert layer(x).item() == -8
    above = torch.nextafter(x, torch.tensor(2.0))
    assert layer(above).item() == 8


def test_padding_adds_neither_sign() -> None:
    layer = BinaryConv2d(8, 1, 3, padding=1)
    set_to(layer.weight, np.ones((1, 8, 3, 3)))
    assert layer(torch.ones(1, 8, 3, 3))[0, 0].tolist() == [
        [32, 48, 32],
        [48, 72, 48],
        [32, 48, 32],
    ]


def test_use_binary_weights() -> None:
    model = nn.Sequential(BinaryBlock(8, 8), nn.Sequential(BinaryConv2d(8, 4, 1)))
    x = torch.randn(2, 8, 5, 5)
    signs = model(x)
    use_binary_weights(model, False)
    assert [layer.binary_weights for layer in binary_layers(model).values()] == [False, False]
    assert not torch.allclose(model(x), signs)
    use_binary_weights(model, True)
    assert torch.equal(model(x), signs)


def test_binary_layers_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), BinaryBlock(8, 16, learned_shortcut=True))
    assert binary_layers(model) == {"1.conv": model[1].conv}


# RPReLU


@given(st.integers(1, 5), seeds)
def test_rprelu(channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = RPReLU(channels).double()
    knee, slope, lift = (grid(rng, channels) for _ in range(3))
    for parameter, values in zip(
        (layer.knee, layer.slope, layer.lift), (knee, slope, lift), strict=True
    ):
        set_to(parameter, values)
    x = grid(rng, 2, channels, 3, 4)
    output, gradient, by_x = run(layer, x)
    shifted = x - a_channel(knee)
    steepness = np.where(shifted > 0, 1, a_channel(slope))
    close(output, steepness * shifted + a_channel(lift))
    close(by_x, gradient * steepness)
    close(gradient_of(layer.knee), -summed(gradient * steepness))
    close(gradient_of(layer.slope), summed(np.where(shifted > 0, 0, gradient * shifted)))
    close(gradient_of(layer.lift), summed(gradient))


def test_drawn_anew_layers_are_as_fresh_ones() -> None:
    activation, layer = RPReLU(8), BinaryConv2d(8, 64, 3)
    for module in (activation, layer):
        for parameter in module.parameters():
            parameter.data.fill_(9)
        module.reset_parameters()
    assert activation(torch.tensor([-4.0, 4.0])[None, None, :, None])[0, 0].tolist() == [[-1], [4]]
    assert not layer.threshold.any()
    assert layer.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


# Shortcut


def averaged(x: Array, stride: int) -> Array:
    """Means of stride x stride squares; of what is there where the map ends within one."""
    height, width = (-(-size // stride) for size in x.shape[2:])
    output = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            square = x[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            output[:, :, i, j] = square.mean((2, 3))
    return output


def spread(gradient: Array, stride: int, height: int, width: int) -> Array:
    """The gradient of `averaged`."""
    output = np.zeros((*gradient.shape[:2], height, width))
    for i in range(gradient.shape[2]):
        for j in range(gradient.shape[3]):
            square = output[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            square += (gradient[:, :, i, j] / (square.shape[2] * square.shape[3]))[..., None, None]
    return output


def mixing(inputs: int, outputs: int) -> Array:
    """(outputs, inputs): repeats the inputs, or averages groups of neighbours."""
    matrix = np.zeros((outputs, inputs))
    for o in range(outputs):
        for i in range(inputs):
            if outputs >= inputs:
                matrix[o, i] = o % inputs == i
            else:
                matrix[o, i] = (i // (inputs // outputs) == o) * outputs / inputs
    return matrix


@given(
    st.sampled_from([(8, 8), (8, 16), (8, 24), (16, 8), (24, 8)]),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 7),
    seeds,
)
def test_shortcut(
    channels: tuple[int, int], stride: int, height: int, width: int, seed: int
) -> None:
    x = grid(np.random.default_rng(seed), 2, channels[0], height, width)
    shortcut, matrix = Shortcut(*channels, stride), mixing(*channels)
    output, gradient, by_x = run(shortcut, x)
    close(output, np.einsum("oc,nchw->nohw", matrix, averaged(x, stride)))
    close(by_x, spread(np.einsum("oc,nohw->nchw", matrix, gradient), stride, height, width))
    assert list(shortcut.parameters()) == []


@pytest.mark.parametrize(
    ("inputs", "outputs", "learned"),
    [(8, 16, True), (16, 8, True), (16, 24, False), (24, 16, False)],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_learned_shortcut(inputs: int, outputs: int, learned: bool, stride: int) -> None:
    rng = np.random.default_rng(0)
    shortcut = with_statistics(Shortcut(inputs, outputs, stride, learned), rng)
    convolution, norm = shortcut.projection
    x = grid(rng, 2, inputs, 5, 4)
    output, gradient, by_x = run(shortcut, x)
    matrix, (factor, offset) = convolution.weight.detach().numpy()[:, :, 0, 0], as_affine(norm)
    mean = averaged(x, stride)
    products = np.einsum("oc,nchw->nohw", matrix, mean)
    close(output, products * a_channel(factor) + a_channel(offset))
    scaled = gradient * a_channel(factor)
    close(gradient_of(convolution.weight)[:, :, 0, 0], np.einsum("nohw,nchw->oc", scaled, mean))
    close(by_x, spread(np.einsum("oc,nohw->nchw", matrix, scaled), stride, 5, 4))


def test_no_real_convolution_goes_around_where_channels_stay() -> None:
    assert list(Shortcut(8, 8, 2, learned=True).parameters()) == []


# Block


def with_statistics(model: nn.Module, rng: np.random.Generator) -> nn.Module:
    """Every parameter and statistic is drawn; in double, for signs to turn at the same places."""
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            set_to(parameter, rng.normal(0, 0.5, parameter.shape))
        if isinstance(module, nn.BatchNorm2d):
            set_to(module.running_mean, rng.normal(0, 1, module.num_features))
            set_to(module.running_var, rng.uniform(0.5, 2, module.num_features))
    return model.double().eval()


def as_affine(norm: nn.BatchNorm2d) -> tuple[Array, Array]:
    """Factor and offset a channel, in evaluation mode."""
    tensors = norm.weight, norm.bias, norm.running_mean, norm.running_var
    weight, bias, mean, variance = (tensor.detach().numpy() for tensor in tensors)
    factor = weight / np.sqrt(variance + norm.eps)
    return factor, bias - mean * factor


@pytest.mark.parametrize(("outputs", "kernel", "stride"), [(8, 3, 1), (16, 3, 2), (24, 1, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_block(outputs: int, kernel: int, stride: int, training: bool) -> None:
    rng = np.random.default_rng(outputs)
    block = with_statistics(BinaryBlock(8, outputs, kernel, stride), rng)
    x = grid(rng, 3, 8, 6, 5)
    weight, threshold = (p.detach().numpy() for p in (block.conv.weight, block.conv.threshold))
    knee, slope, lift = (p.detach().numpy() for p in block.activation.parameters())
    where = stride, kernel // 2

    shifted = x - a_channel(threshold)
    scale = a_channel(np.abs(weight).mean((1, 2, 3)))
    convolution = convolved(signs_of(shifted), signs_of(weight), *where) * scale
    if training:
        set_to(block.norm.running_mean, summed(convolution) / convolution[:, 0].size)
        set_to(block.norm.running_var, convolution.var((0, 2, 3)))
    factor, offset = map(a_channel, as_affine(block.norm))
    matrix = mixing(8, outputs)
    around = np.einsum("oc,nchw->nohw", matrix, averaged(x, stride))
    bent = convolution * factor + offset + around - a_channel(knee)
    steepness = np.where(bent > 0, 1, a_channel(slope))

    output, gradient, by_x = run(block.train(training), x)
    close(output, steepness * bent + a_channel(lift))
    into = gradient * steepness
    close(gradient_of(block.activation.knee), -summed(into))
    close(gradient_of(block.activation.lift), summed(gradient))
    if training:  # through the statistics of the batch (Ioffe & Szegedy 2015, arXiv:1502.03167)
        count = convolution[:, 0].size
        std = np.sqrt(a_channel(convolution.var((0, 2, 3))) + block.norm.eps)
        normed = (convolution - a_channel(summed(convolution) / count)) / std
        share = a_channel(summed(into)) / count + normed * a_channel(summed(into * normed)) / count
        by_convolution = factor * (into - share)
    else:
        by_convolution = factor * into
    by_signs, by_weight = convolution_gradients(
        signs_of(shifted), signs_of(weight), *where, by_convolution * scale
    )
    close(gradient_of(block.conv.weight), np.where(np.abs(weight) <= 1, by_weight, 0))
    close(gradient_of(block.conv.threshold), -summed(by_signs * parabola(shifted)))
    back = spread(np.einsum("oc,nohw->nchw", matrix, into), stride, 6, 5)
    close(by_x, by_signs * parabola(shifted) + back)


# Deployment


def networks() -> dict[str, nn.Module]:
    real = BinaryBlock(8, 16, stride=2)
    real.conv = nn.Conv2d(8, 16, 3, 2, 1, bias=False)
    return {
        "blocks": nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            BinaryBlock(8, 16, stride=2),
            nn.Sequential(
                BinaryBlock(16, 16, kernel=1), BinaryBlock(16, 32, learned_shortcut=True)
            ),
        ),
        "no block": nn.Sequential(nn.Conv2d(3, 8, 1), BinaryConv2d(8, 4, 3, 2, 1)),
        "a real block": nn.Sequential(nn.Conv2d(3, 8, 1), BinaryBlock(8, 8), real),
    }


@pytest.mark.parametrize("name", networks())
def test_for_deployment_computes_the_same(name: str) -> None:
    rng = np.random.default_rng(3)
    model = with_statistics(networks()[name], rng).train()
    state = copy.deepcopy(model.state_dict())
    layers = binary_layers(model)
    deployed = for_deployment(model)
    x = torch.tensor(rng.normal(size=(2, 3, 9, 8)))
    with torch.no_grad():
        close(deployed(x).numpy(), model.eval()(x).numpy())
    assert binary_layers(deployed) == {}
    assert not deployed.training

    # The original is as it was.
    assert binary_layers(model) == layers
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not {t.data_ptr() for t in deployed.state_dict().values()} & {
        t.data_ptr() for t in model.state_dict().values()
    }


def test_for_deployment_leaves_the_original_in_training() -> None:
    model = networks()["blocks"].train()
    for_deployment(model)
    assert all(module.training for module in model.modules())


def test_deployed_constants_are_signs() -> None:
    deployed = for_deployment(networks()["blocks"])
    found = [value for key, value in deployed.named_buffers() if key.endswith(".signs")]
    assert len(found) == 3
    assert all((value.abs() == 1).all() for value in found)
    norms = [module for module in deployed.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 1  # the learned shortcut's
