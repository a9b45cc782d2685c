"""Networks as people write them: what of their answer is meant, through to the deployed file."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.export.onnx import check_export, export_onnx
from compress.methods.prune.channel_groups import PrunableNetwork
from compress.models.candidate import Candidate
from compress.models.memory_format import place
from compress.models.provenance import Provenance
from compress.models.trial import check_forward
from compress.runtimes.onnxruntime import OnnxSession
from compress.runtimes.outputs import by_name
from compress.tasks import task_of
from compress.training.loop import named_floats
from compress.utils.errors import UserError

SPEC = InputSpec(
    height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), classes=tuple("abcd")
)


class Small(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1)
        )
        self.fc = nn.Linear(24, 4)
        self.aux = nn.Linear(24, 4)
        self.dropout = nn.Dropout(0.5)

    def features(self, x: Tensor) -> Tensor:
        return self.dropout(self.body(x).mean((2, 3)).relu())

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.features(x))


@dataclass
class Output:
    loss: Any = None
    logits: Any = None
    hidden_states: Any = None


class InMapping(Small):
    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        return OrderedDict(features=f, scores=self.fc(f))


class InTuple(Small):
    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        return self.fc(f), f


class InObject(Small):
    """As Hugging Face's, whose input has another name, too."""

    def forward(self, pixel_values: Tensor) -> Any:
        f = self.features(pixel_values)
        return Output(logits=self.fc(f), hidden_states=(f,))


class Nested(Small):
    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        return [{"features": f}, (f, {"logits": self.fc(f), "other": self.aux(f)})]


class SecondHead(Small):
    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        return (self.fc(f), self.aux(f)) if self.training else self.fc(f)


class SecondHeadFirst(SecondHead):
    def forward(self, x: Tensor) -> Any:
        given = super().forward(x)
        return given[::-1] if self.training else given


class Averaged(Small):
    """As DeiT: two heads in training, otherwise their mean."""

    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        first, second = self.fc(f), self.aux(f)
        return (first, second) if self.training else (first + second) / 2


class TwoHeads(Small):
    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        return {"first": self.fc(f), "second": self.aux(f)}


NETWORKS = {
    "array": (Small, []),
    "mapping": (InMapping, ["scores is taken of its outputs (features, scores)"]),
    "tuple": (InTuple, ["[0] is taken of its outputs ([0], [1])"]),
    "object": (InObject, ["logits is taken of its outputs (logits, hidden_states[0])"]),
    "nested": (
        Nested,
        [
            "[1][1].logits is taken of its outputs ([0].features, [1][0], [1][1].logits, "
            "[1][1].other)"
        ],
    ),
    "second head": (SecondHead, ["[0] is taken of what it gives in training ([0], [1])"]),
}
each = pytest.mark.parametrize(("network", "notes"), NETWORKS.values(), ids=NETWORKS.keys())


def logits_of(model: Small, images: Tensor) -> Tensor:
    """The right values: those of the plain network with the same weights."""
    plain = Small()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        return plain.eval()(images)


@each
def test_what_is_taken_is_said(network: type[Small], notes: list[str]) -> None:
    assert check_forward(network(), SPEC, "mine:net") == notes


@each
def test_the_deployed_file_gives_the_logits_alone(
    network: type[Small], notes: list[str], tmp_path: Path
) -> None:
    model, path = network(seed=1), tmp_path / "model.onnx"
    images = torch.randn(5, 3, 32, 32)
    candidate = Candidate(model, "mine:net", {}, SPEC, Provenance(("net",)))
    export_onnx(candidate, path)
    assert check_export(candidate, path, images.numpy()) < 1e-3
    session = OnnxSession(path, threads=1)
    assert session.outputs == ("logits",)
    given = session.run(images.numpy())["logits"]
    np.testing.assert_allclose(given, logits_of(model, images).numpy(), atol=1e-4)


@each
def test_the_loss_is_of_the_logits_alone(network: type[Small], notes: list[str]) -> None:
    model, images = network(), torch.randn(4, 3, 32, 32)
    assert place(model, torch.device("cpu"), images, trains=True) == torch.channels_last
    model.train()
    model.dropout.eval()
    named = named_floats(model(images), task_of(SPEC), training=True)
    named["logits"].sum().backward()
    assert model.fc.weight.grad is not None and model.aux.weight.grad is None


@each
def test_pruned_the_heads_still_fit(network: type[Small], notes: list[str]) -> None:
    prunable = PrunableNetwork(network(), SPEC)
    assert {g.root for g in prunable.groups} >= {"body.0", "body.3"}
    narrow = prunable.narrow([range(g.channels // 2) for g in prunable.groups])
    assert narrow.fc.weight.shape == (4, 12)
    check_forward(narrow, SPEC, "mine:net")  # in training, too
    given = by_name(narrow.eval()(torch.zeros(2, 3, 32, 32)), SPEC.outputs)
    assert given["logits"].shape == (2, 4)


def test_what_could_be_two_is_refused() -> None:
    for network, said in (
        (TwoHeads, "mine:net: The model gives first and second, and each could be its logits"),
        (SecondHeadFirst, r"gives \[0\] and \[1\] in training, and .*: let it return that one f"),
        (Averaged, r"gives \[0\] and \[1\] in training, and .*, or call it logits"),
    ):
        with pytest.raises(UserError, match=said):
            check_forward(network(), SPEC, "mine:net")


class OtherClasses(Small):
    def forward(self, x: Tensor) -> Any:
        return {"logits": self.fc(self.features(x))[:, :3], "features": self.features(x)}


def test_another_number_of_classes() -> None:
    with pytest.raises(UserError, match=r"mine:net gives \(2, 3\) for two images; .* 4 classes"):
        check_forward(OtherClasses(), SPEC, "mine:net")


def sized(size: int) -> InputSpec:
    return SPEC.at(size)


class Flattening(nn.Module):
    """Takes one size alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 4))

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


def test_sizes_that_are_wrong_are_told_one_that_is_right() -> None:
    with pytest.raises(UserError) as small:
        check_forward(Flattening(64), sized(32), "mine:net")
    assert "does not take images of 32 x 32: they are too small, it takes 64 x 64 (mat1" in str(
        small.value
    )
    with pytest.raises(UserError, match="images of 64 x 64: it takes 28 x 28"):
        check_forward(Flattening(28), sized(64), "mine:net")
    with pytest.raises(UserError, match="images of 32 x 32: mat1 and mat2"):
        check_forward(Flattening(33), sized(32), "mine:net")


def inception(**settings: Any) -> nn.Module:
    return torchvision.models.inception_v3(num_classes=4, init_weights=False, **settings)


def test_inception_needs_larger_images() -> None:
    with pytest.raises(UserError, match="64 x 64: they are too small, it takes 75 x 75 "):
        check_forward(inception(aux_logits=False), sized(64), "inception")
    check_forward(inception(aux_logits=False), sized(75), "inception")
    with pytest.raises(UserError) as caught:
        check_forward(inception(), sized(75), "inception")
    assert "75 x 75 in training: they are too small, it takes " in str(caught.value)
    assert "auxiliary heads (settings: {aux_logits: false})" in str(caught.value)


def test_googlenets_second_heads_are_left_out() -> None:
    model = torchvision.models.googlenet(num_classes=4, init_weights=False)
    assert check_forward(model, sized(64), "googlenet") == [
        "logits is taken of what it gives in training (logits, aux_logits2, aux_logits1)"
    ]


class Sleepless(Small):
    def forward(self, x: Tensor) -> Any:
        return self.fc(nn.functional.dropout(self.features(x)))


class BatchStatistics(Small):
    """Its batch norm has no running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.body[1] = nn.BatchNorm2d(16, track_running_stats=False)


def test_what_answers_otherwise_each_time_is_refused() -> None:
    with pytest.raises(UserError, match="mine:net gives the same images other answers when it is"):
        check_forward(Sleepless(), SPEC, "mine:net")
    with pytest.raises(UserError, match="answers an image differently beside other images"):
        check_forward(BatchStatistics(), SPEC, "mine:net")


def test_random_numbers_behind_a_trial_are_what_they_were_without_it() -> None:
    model = Small()
    model.dropout = nn.Identity()
    drawn = torch.get_rng_state()
    check_forward(model, SPEC, "mine:net")
    assert torch.equal(torch.get_rng_state(), drawn)
