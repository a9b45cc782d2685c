"""Convolutions of trained networks become binary blocks, and are built again from their weights."""

import copy

import pytest
import torch
from torch import nn

from compress.methods.binarize.conversion import (
    binarize_layers,
    binary_faults,
    convolutions,
    obstacle,
)
from compress.models.binary_layers import BinaryBlock, BinaryConv2d, binarize_layer, binary_layers
from compress.models.structure import Replaced, restructure
from students.binary import binary_resnet18
from teachers.vgg import vgg16_bn


def narrow_vgg() -> nn.Module:
    torch.manual_seed(0)
    return vgg16_bn(num_classes=3, pool=1, classifier_width=16, width=0.25)


def randomized(model: nn.Module) -> nn.Module:
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.1, 1.0)
    return model.eval()


def test_the_first_convolution_is_no_candidate() -> None:
    names = list(convolutions(narrow_vgg()))
    assert len(names) == 12
    assert "features.0" not in names


def test_a_block_takes_over_weights_norm_and_activation() -> None:
    model = narrow_vgg()
    weight, norm = model.features[3].weight.detach().clone(), copy.deepcopy(model.features[4])
    binarize_layer(model, "features.3")
    block = model.features[3]
    assert isinstance(block, BinaryBlock)
    assert torch.equal(block.conv.weight, weight)
    assert torch.equal(block.norm.weight, norm.weight)
    assert isinstance(model.features[4], nn.Identity)
    assert isinstance(model.features[5], nn.Identity)
    assert isinstance(model.features[6], nn.MaxPool2d)  # what follows stays
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_the_float_version_of_a_binary_network_becomes_the_binary_one() -> None:
    """Same names, same weights, same answers as the network that was built binary."""
    torch.manual_seed(0)
    real = binary_resnet18(num_classes=3, width=0.25, binary=False).eval()
    names = [name for name in convolutions(real) if name.endswith(".conv")]
    assert len(names) == 16 and not any(obstacle(real, name) for name in names)
    binary = binary_resnet18(num_classes=3, width=0.25).eval()
    missing, unexpected = binary.load_state_dict(real.state_dict(), strict=False)
    assert not unexpected and all(name.endswith(".threshold") for name in missing)
    saved = copy.deepcopy(real)
    for name in names:
        binarize_layer(saved, name)
    assert len(binary_layers(saved)) == 16
    again = binary_resnet18(num_classes=3, width=0.25, binary=False)
    restructure(again, [Replaced(name, "binary") for name in names], saved.state_dict())
    again.load_state_dict(saved.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for model in (saved, again.eval()):
        assert torch.equal(model(images), binary(images))


def test_what_goes_around_begins_by_the_seed() -> None:
    def around(seed: int) -> torch.Tensor:
        torch.rand(int(torch.randint(1, 9, ())))  # whatever was drawn before
        model = nn.Sequential(nn.Conv2d(3, 48, 3), nn.Conv2d(48, 80, 3, padding=1))
        binarize_layers(model, ["1"], seed)
        return torch.cat([p.detach().flatten() for p in model[1].shortcut.parameters()])

    assert torch.equal(around(0), around(0)) and not torch.equal(around(0), around(1))


def test_without_norm_or_activation_what_follows_stays() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d(2), nn.ReLU())
    binarize_layer(model, "0")
    assert [type(m) for m in model] == [BinaryBlock, nn.MaxPool2d, nn.ReLU]


def test_built_again_from_its_weights_also_when_pruned() -> None:
    saved = narrow_vgg()
    # As a pruned network would be: other widths, some without a whole ratio between them.
    saved.features[3] = nn.Conv2d(16, 24, 3, padding=1)
    saved.features[4] = nn.BatchNorm2d(24)
    saved.features[7] = nn.Conv2d(24, 40, 3, padding=1)
    saved.features[8] = nn.BatchNorm2d(40)
    saved.features[10] = nn.Conv2d(40, 32, 3, padding=1)
    names = ["features.3", "features.7", "features.24"]
    for name in names:
        binarize_layer(saved, name)
    randomized(saved)

    model = narrow_vgg()
    restructure(model, [Replaced(name, "binary") for name in names], saved.state_dict())
    model.load_state_dict(saved.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model.eval()(images), saved(images))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), "8 groups"),
        (nn.Conv2d(8, 8, 3, padding=2, dilation=2), "dilation"),
        (nn.Conv2d(12, 8, 3, padding=1), "12 input channels"),
        (nn.Conv2d(8, 8, 3), "does not keep its map's size"),
        (nn.Conv2d(8, 8, (3, 1), padding=(1, 0)), "both directions"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "zeros"),
        (nn.Conv2d(8, 8, 3, padding="same"), "zeros"),
        (nn.Conv2d(8, 8, 2, padding=1), "map's size"),
        (nn.Conv2d(8, 8, 5, stride=3, padding=2), "stride of 3"),
        (nn.Conv2d(8, 8, 9, padding=4), "kernel of 9"),
        (nn.Linear(8, 8), "no convolution"),
    ],
)
def test_what_cannot_be_binary(layer: nn.Module, reason: str) -> None:
    said = obstacle(nn.Sequential(nn.Conv2d(3, 8, 3), layer), "1")
    assert said is not None
    assert reason in said


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3, padding=1),
        nn.Conv2d(16, 8, 1),
        nn.Conv2d(8, 8, 5, stride=2, padding=2),
    ],
)
def test_what_can(layer: nn.Conv2d) -> None:
    model = nn.Sequential(nn.Conv2d(3, layer.in_channels, 3, padding=1), layer)
    before = model(torch.zeros(1, 3, 9, 9)).shape
    assert obstacle(model, "1") is None
    binarize_layer(model, "1")
    assert model(torch.zeros(1, 3, 9, 9)).shape == before


def test_outside_of_a_sequence_nothing_is_known() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

    said = obstacle(Net(), "conv")
    assert said is not None
    assert "Sequential" in said


def test_faults_of_a_binary_network_name_its_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 12, 3), BinaryConv2d(12, 8, 3), BinaryBlock(8, 8, 5, 3))
    channels, stride = binary_faults(model)
    assert channels.startswith("1 has 12 input channels")
    assert stride.startswith("2.conv has a stride of 3")
