"""Binary students, found by looking into the module: what is binary, what is real, what learns."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models import vgg16_bn

from compress.models.binary_layers import CHANNELS, BinaryBlock, BinaryConv2d, binary_layers
from compress.models.builders import build
from students import binary as module

NARROW = {"width": 0.125}
TINY = {
    name: {} if name == "quicknet_small" else NARROW  # that one is narrow as it is
    for name in module.__all__
}
TINY["binary_vgg16"] = {**NARROW, "classifier_width": 16}
WIDE = [name for name in module.__all__ if "width" in TINY[name]]
LAYERS = {"binary_resnet18": 16, "binary_vgg16": 12, "quicknet_small": 16, "reactnet": 26}

by_name = pytest.mark.parametrize("name", module.__all__)


def student(name: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return build(f"students.binary:{name}", {**TINY[name], **settings}, 5, ())


def images(count: int = 4, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def weights(model: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of all convolutions' and linear layers' weights."""
    kinds = (nn.Conv2d, nn.Linear, BinaryConv2d)
    return [tuple(m.weight.shape) for m in model.modules() if isinstance(m, kinds)]


def macs(model: nn.Module, size: int) -> tuple[int, int]:
    """Multiplications of signs, and of real numbers, for one image; on the meta device."""
    found = [0, 0]

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        cost = output.numel() * layer.weight[0].numel()
        found[not isinstance(layer, BinaryConv2d)] += cost

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, BinaryConv2d)):
            layer.register_forward_hook(count)
    model.eval()(torch.empty(1, 3, size, size, device="meta"))
    return found[0], found[1]


def full(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(f"students.binary:{name}", {}, 1000, ())


@by_name
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (33, 50)])
def test_logits(name: str, binary: bool, size: tuple[int, int]) -> None:
    logits = student(name, binary=binary)(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5) and logits.isfinite().all()


@by_name
def test_first_layer_and_classifier_are_real_and_the_body_is_not(name: str) -> None:
    model = student(name)
    kinds = (nn.Conv2d, nn.Linear, BinaryConv2d)
    first, *_, last = (m for m in model.modules() if isinstance(m, kinds))
    assert isinstance(first, nn.Conv2d) and first.in_channels == 3
    assert isinstance(last, nn.Linear)
    assert len(binary_layers(model)) == LAYERS[name]
    blocks = [m for m in model.modules() if isinstance(m, BinaryBlock)]
    assert len(blocks) == LAYERS[name]
    others = {"binary_resnet18": 4, "quicknet_small": 6}  # with those of shortcuts, transitions
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == others.get(name, 1)


@by_name
def test_the_float_version_has_the_same_weights_and_computes_with_them(name: str) -> None:
    signs, real = student(name), student(name, binary=False)
    assert binary_layers(real) == {}
    assert weights(real) == weights(signs)
    state = signs.state_dict()
    for key, tensor in real.state_dict().items():
        assert torch.equal(tensor, state.pop(key)), key
    assert all(key.endswith(".threshold") for key in state) and len(state) == LAYERS[name]
    x = images(2)
    before = real.eval()(x)
    next(m for m in real.modules() if isinstance(m, BinaryBlock)).conv.weight.data *= 2
    assert not torch.allclose(real(x), before)  # signs would not notice


@by_name
def test_every_parameter_matters(name: str) -> None:
    """In evaluation mode: a batch norm's own mean hides what shifts before it."""
    model = student(name)
    with torch.no_grad():
        model(images(16))  # statistics that put what is binarized into the gradient's reach
    model.eval()(images()).square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@by_name
@pytest.mark.parametrize("what", ["everything", "weights of signs alone", "float version"])
def test_learns(name: str, what: str) -> None:
    model, labels = student(name, binary=what != "float version"), torch.arange(10) % 5
    patterns = nn.functional.interpolate(images(5, 4), scale_factor=16)  # one a class
    x = patterns[labels] + 0.3 * images(10)
    signs = [layer.weight for layer in binary_layers(model).values()]
    learning = signs if what.startswith("weights") else model.parameters()
    optimizer = torch.optim.Adam(learning, 2e-3)
    losses = []
    for _ in range(24 if name == "binary_vgg16" else 12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@given(st.sampled_from(WIDE), st.floats(0.05, 1.6))
def test_any_width_gives_channels_that_the_kernel_reads(name: str, width: float) -> None:
    with torch.device("meta"):
        model = build(f"students.binary:{name}", {"width": width}, 5, ())
    for layer in binary_layers(model).values():
        assert layer.weight.shape[0] % CHANNELS == layer.weight.shape[1] % CHANNELS == 0
    if name != "binary_resnet18":  # shortcuts repeat, whatever the width
        assert all(m.projection is None for m in model.modules() if hasattr(m, "projection"))
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).out_channels
    assert abs(first - {"reactnet": 32}.get(name, 64) * width) <= CHANNELS / 2 or first == CHANNELS


@pytest.mark.parametrize(("width", "first"), [(0.25, 16), (0.5, 32), (1.0, 64), (1.5, 96)])
def test_width_multiplies_all_channels(width: float, first: int) -> None:
    model = student("binary_vgg16", width=width)
    outputs = [shape[0] for shape in weights(model) if len(shape) == 4]
    assert outputs == [first * f for f in (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)]


def test_resnet_costs_what_larq_counts() -> None:
    """Of BinaryResNetE18 (Larq Zoo), the same layers."""
    assert macs(full("binary_resnet18"), 224) == (1_676_279_808, 137_793_536)


def test_reactnet_costs_what_its_paper_says() -> None:
    """ReActNet-A: 4.82e9 binary operations and 0.12e8 others."""
    signs, real = macs(full("reactnet"), 224)
    assert (round(signs / 1e9, 2), round(real / 1e8, 2)) == (4.82, 0.12)


def test_quicknet_has_as_many_parameters_as_larqs() -> None:
    """12,655,688: with the frozen blur of its three transitions and one norm's two statistics."""
    model = full("quicknet_small")
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.BatchNorm2d))]
    parameters = sum(p.numel() for m in layers for p in m.parameters())
    parameters += sum(m.weight.numel() for m in binary_layers(model).values())
    assert parameters + 9 * (32 + 64 + 256) + 2 * 8 == 12_655_688


def test_vgg_has_the_convolutions_of_vgg16() -> None:
    convolutions = [shape for shape in weights(full("binary_vgg16")) if len(shape) == 4]
    with torch.device("meta"):
        assert convolutions == weights(vgg16_bn().features)


@pytest.mark.parametrize(("hidden", "pool"), [(0, 1), (2, 2)])
def test_vggs_classifier(hidden: int, pool: int) -> None:
    model = student("binary_vgg16", hidden_layers=hidden, pool=pool)
    found = [m for m in model.modules() if isinstance(m, nn.Linear)]
    units = [64 * pool * pool, *[16] * hidden, 5]
    assert [(m.in_features, m.out_features) for m in found] == list(pairwise(units))
    assert model(images(2)).shape == (2, 5)


def test_maps_of_quicknet() -> None:
    """Larq's stem leaves a quarter of the image's side, each transition half, rounded up."""
    model, maps = student("quicknet_small"), []
    for block in model.modules():
        if isinstance(block, BinaryBlock):
            block.register_forward_hook(lambda _, __, output: maps.append(tuple(output.shape[1:3])))
    model.eval()(images(1, 50))
    expected = [(32, 13), (64, 7), (256, 4), (512, 2)]
    assert maps == [shape for shape in expected for _ in range(4)]
