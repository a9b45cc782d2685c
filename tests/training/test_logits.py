"""Networks that end in a softmax or sigmoid are refused before they are trained."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_small

from compress.data.input_spec import InputSpec
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.training.logits import refuse_fresh_probabilities
from compress.utils.errors import UserError

SPEC = InputSpec(height=16, width=16, mean=(0.5,) * 3, std=(0.25,) * 3, classes=("a", "b", "c"))


def fresh(*tail: nn.Module) -> Candidate:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveMaxPool2d(2))
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 3), *tail)
    return Candidate(net, "x:net", {}, SPEC, Provenance(("teacher", "distil kd → net")))


@pytest.mark.parametrize(
    ("tail", "kind"),
    [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")],
    ids=["softmax", "sigmoid"],
)
def test_a_fresh_network_that_answers_with_probabilities(tail: nn.Module, kind: str) -> None:
    with pytest.raises(UserError, match=f"→ net answers with the probabilities of a {kind}, "):
        refuse_fresh_probabilities(fresh(tail))


def test_a_fresh_network_whose_sigmoid_is_a_half_for_every_image() -> None:
    torch.manual_seed(0)
    for tail in (nn.Identity(), nn.Sigmoid()):
        net = nn.Sequential(mobilenet_v3_small(num_classes=3), tail)
        candidate = Candidate(net, "x:net", {}, SPEC, Provenance(("teacher", "distil kd → net")))
        if isinstance(tail, nn.Identity):
            refuse_fresh_probabilities(candidate)
            continue
        assert float((net.eval()(torch.randn(8, 3, 16, 16)) - 0.5).abs().max()) < 0.05
        with pytest.raises(UserError, match="→ net answers with the probabilities of a sigmoid, "):
            refuse_fresh_probabilities(candidate)


@pytest.mark.parametrize(
    "tail", [nn.Identity(), nn.LayerNorm(3), nn.ReLU(), nn.LogSoftmax(1)], ids=repr
)
def test_a_fresh_network_of_logits_is_taken(tail: nn.Module) -> None:
    candidate = fresh(tail)
    refuse_fresh_probabilities(candidate)
    nn.init.zeros_(candidate.model[5].weight)  # as many last layers begin
    refuse_fresh_probabilities(candidate)
