"""Networks of somebody's builders, as they come."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.data.input_spec import InputSpec
from compress.models.builders import build
from compress.models.candidate import Candidate
from compress.utils.errors import UserError

SPEC = InputSpec(height=12, width=16, mean=(0.5,) * 3, std=(0.2,) * 3, classes=("a", "b", "c"))
BUILDER = "tests.models.test_lazy_layers:lazy"


def lazy(num_classes: int) -> nn.Module:
    """Layers that know their sizes only when they have seen an image."""
    return nn.Sequential(
        nn.LazyConv2d(8, 3),
        nn.LazyBatchNorm2d(),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(num_classes),
    )


def test_lazy_layers_get_their_sizes_and_the_same_weights_for_a_seed(tmp_path: Path) -> None:
    one, other = (
        Candidate.create(BUILDER, {}, SPEC, ("lazy",), 0, ("tests",)).model for _ in range(2)
    )
    assert one.training and one[4].in_features == 8 * 10 * 14  # type: ignore[index]
    assert one[1].num_batches_tracked == 0  # type: ignore[index]
    for key, value in copy.deepcopy(one).state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def test_lazy_networks_are_read_again(tmp_path: Path) -> None:
    candidate = Candidate.create(BUILDER, {}, SPEC, ("lazy",), 0, ("tests",))
    candidate.save(tmp_path, {}, {})
    again = Candidate.load(tmp_path, ("tests",))
    image = torch.randn(2, 3, 12, 16)
    with torch.no_grad():
        assert torch.equal(again.model(image), candidate.model.eval()(image))


def test_lazy_networks_that_do_not_take_the_image() -> None:
    with pytest.raises(UserError, match="lazy does not take images of 2 x 2: "):
        build(BUILDER, {}, 3, ("tests",), (3, 2, 2))
