"""Whatever a network does with its channels: pruning gives exactly it without some, or is refused.

What stays is found by the norms' weights, all of which are different, and not by asking the library
whose mapping is to be tested.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.export.onnx import check_export, export_onnx
from compress.measure.file_shapes import file_layer_shapes
from compress.measure.module_shapes import layer_shapes
from compress.methods.prune.allocation import WidthOptions
from compress.methods.prune.channel_groups import PrunableNetwork, most_important
from compress.models.candidate import Candidate
from compress.utils.errors import UserError

SIZE, CLASSES, GROUPS = 12, 3, 4
SPEC = InputSpec(
    height=SIZE, width=SIZE, mean=(0.5,) * 3, std=(0.2,) * 3, fit="stretch", classes=("a", "b", "c")
)


def block(inputs: int, outputs: int, norm: str = "batch", groups: int = 1) -> nn.Sequential:
    """A convolution and a norm with weights of which no two are the same."""
    norms = {"batch": nn.BatchNorm2d(outputs), "group": nn.GroupNorm(GROUPS, outputs)}
    layers = nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups), norms[norm], nn.ReLU()
    )
    for parameter in layers[1].parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return layers


class Steps(nn.Module):
    """A stem, steps of which each has a block and says what it does with it, and a linear layer."""

    def __init__(self, steps: Sequence[tuple[str, str]], channels: int = 8) -> None:
        super().__init__()
        self.stem = block(3, channels)
        self.blocks = nn.ModuleList()
        self.whats = [what for what, _ in steps]
        for what, norm in steps:
            outputs = 12 if what == "wider" else channels
            inputs, groups = channels, 1
            if what == "depthwise":
                groups = channels
            if what == "chunks":
                inputs = outputs = channels // 2
            self.blocks.append(block(inputs, outputs, norm, groups))
            channels = 2 * channels if what == "concatenation" else channels
            channels = outputs if what == "wider" else channels
            channels = channels // 2 if what in ("maxout", "fold") else channels
        self.last = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for what, layers in zip(self.whats, self.blocks, strict=True):
            x = STEPS[what](x, layers)
        logits: Tensor = self.last(x.mean((2, 3)))
        return logits


def chunks(x: Tensor, layers: nn.Module) -> Tensor:
    one, other = x.chunk(2, 1)
    return torch.cat([one, layers(other)], 1)


def maxout(x: Tensor, layers: nn.Module) -> Tensor:
    x = layers(x)
    return torch.maximum(x[:, ::2], x[:, 1::2])


def fold(x: Tensor, layers: nn.Module) -> Tensor:
    x = layers(x)
    return x[:, : x.shape[1] // 2] + x[:, x.shape[1] // 2 :]


PLAIN: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "wider": lambda x, layers: layers(x),
    "depthwise": lambda x, layers: layers(x),
    "residual": lambda x, layers: x + layers(x),
    "concatenation": lambda x, layers: torch.cat([layers(x), x], 1),
}
STEPS = PLAIN | {
    "chunks": chunks,
    "maxout": maxout,
    "fold": fold,
    "sorted by parity": lambda x, layers: layers(torch.cat([x[:, ::2], x[:, 1::2]], 1)),
    "reversed": lambda x, layers: x.flip(1) + layers(x),
    "turned": lambda x, layers: layers(x).roll(1, 1),
    "padded": lambda x, layers: layers(x) + F.pad(x[:, 1:-1], (0, 0, 0, 0, 1, 1)),
}


class OfThoseThatStay(nn.Module):
    """A group norm over some of the channels; the others are zero."""

    def __init__(self, norm: nn.GroupNorm, stay: Tensor) -> None:
        super().__init__()
        self.norm, self.stay = norm, stay

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            self.group(chunk, stay)
            for chunk, stay in zip(
                x.chunk(self.norm.num_groups, 1), self.stay.chunk(self.norm.num_groups), strict=True
            )
        ]
        shape = (1, -1, 1, 1)
        scaled = torch.cat(parts, 1) * self.norm.weight.view(shape) + self.norm.bias.view(shape)
        return scaled * self.stay.view(shape)

    def group(self, x: Tensor, stay: Tensor) -> Tensor:
        some = x[:, stay].flatten(1)
        mean, variance = some.mean(1), some.var(1, correction=0)
        shape = (-1, 1, 1, 1)
        return (x - mean.view(shape)) / (variance.view(shape) + self.norm.eps).sqrt()


def without(model: nn.Module, narrow: nn.Module) -> nn.Module:
    """Return the network as it was, without what the channels that are gone contributed."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            continue
        left = narrow.get_submodule(name).weight
        stay = torch.isin(module.weight, left)  # type: ignore[arg-type]
        assert int(stay.sum()) == left.numel()  # type: ignore[operator]
        if isinstance(module, nn.BatchNorm2d):
            for parameter in module.parameters():
                parameter.data[~stay] = 0.0
        else:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, OfThoseThatStay(module, stay))
    return model


def outputs(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        found: Tensor = model(torch.randn(3, 3, SIZE, SIZE, generator=generator))
    return found


def check(model: nn.Module, seed: int, shares: Sequence[float]) -> None:
    """Narrow a network by these shares and compare it with itself; refusals are passed on."""
    prunable = PrunableNetwork(model, SPEC)
    generator = torch.Generator().manual_seed(seed)
    worth = [torch.rand(group.channels, generator=generator) for group in prunable.groups]
    widths = [
        max(len(g.parts), g.blocks * max(1, round(shares[i % len(shares)] * g.channels / g.blocks)))
        for i, g in enumerate(prunable.groups)
    ]
    narrow = prunable.narrow(most_important(prunable.groups, worth, widths))
    torch.testing.assert_close(
        outputs(narrow), outputs(without(model, narrow)), rtol=1e-4, atol=1e-5
    )


def made_of(steps: Sequence[tuple[str, str]], seed: int = 0, channels: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return Steps(steps, channels).eval()


NORMS = st.sampled_from(["batch", "group"])
SHARES = st.lists(st.floats(0.1, 0.9), min_size=1, max_size=4)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(PLAIN)), NORMS), min_size=1, max_size=4),
    st.integers(0, 99),
    SHARES,
)
@settings(max_examples=20, deadline=None)
def test_sums_and_concatenations_are_narrowed(
    steps: list[tuple[str, str]], seed: int, shares: list[float]
) -> None:
    try:
        check(made_of(steps, seed), seed, shares)
    except UserError as error:
        # All of them are bound to a group norm that sees some of concatenated channels.
        kinds, norms = zip(*steps, strict=True)
        bound = "concatenation" in kinds and "group" in norms
        if "nothing to prune" not in str(error) or not bound:
            raise


@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), NORMS), min_size=1, max_size=4),
    st.integers(0, 99),
    SHARES,
)
@settings(max_examples=30, deadline=None)
def test_narrowed_exactly_or_refused(
    steps: list[tuple[str, str]], seed: int, shares: list[float]
) -> None:
    try:
        model = made_of(steps, seed)
    except (ValueError, RuntimeError):
        return  # channels that do not go into groups
    try:
        check(model, seed, shares)
    except UserError as error:
        assert "cannot be pruned" in str(error) or "nothing to prune" in str(error)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("maxout", "blocks.0.0"),
        ("sorted by parity", "blocks.1.0"),
        ("reversed", "last"),
        ("turned", "last"),
        ("padded", "last"),
    ],
)
def test_channels_that_are_taken_for_others_are_refused_by_name(what: str, named: str) -> None:
    with pytest.raises(UserError, match=f"Steps cannot be pruned.*{named}.*distill.*ignore"):
        check(made_of([("wider", "batch"), (what, "batch")][what == "maxout" :], 0, 32), 0, [0.5])


def test_layers_left_out_need_not_be_followed() -> None:
    model = made_of([("wider", "batch"), ("maxout", "batch")])
    prunable = PrunableNetwork(model, SPEC, ["blocks.1.0"])
    assert {group.root for group in prunable.groups} == {"stem.0", "blocks.0.0"}


class OfAConcatenation(nn.Module):
    """One group norm sees the channels of two convolutions, each group those of one or both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.beside = block(3, 4), block(4, 12)
        self.norm, self.last = nn.GroupNorm(4, 16), nn.Linear(16, CLASSES)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        logits: Tensor = self.last(self.norm(torch.cat([x, self.beside(x)], 1)).mean((2, 3)))
        return logits


def test_every_layer_of_a_concatenation_keeps_a_channel() -> None:
    model = made_of([("concatenation", "batch"), ("depthwise", "batch")])
    (group,) = PrunableNetwork(model, SPEC).groups
    assert group.channels == 16
    assert sorted(group.parts) == [tuple(range(8)), tuple(range(8, 16))]
    for worth in (torch.arange(16.0), torch.arange(16.0).flip(0)):
        stay = group.best(worth, 4)
        assert len(stay) == 4 and all(set(part) & set(stay) for part in group.parts)


def test_what_a_group_norm_sees_together_keeps_its_width() -> None:
    with pytest.raises(UserError, match=r"nothing to prune.*group norm"):
        PrunableNetwork(OfAConcatenation().eval(), SPEC)


def test_group_norms_keep_their_groups() -> None:
    model = made_of([("wider", "group"), ("residual", "batch")], channels=16)
    prunable = PrunableNetwork(model, SPEC)
    (group,) = (group for group in prunable.groups if "blocks.0.0" in group.outputs)
    assert [g.blocks for g in prunable.groups if g != group] == [1] and group.blocks == GROUPS
    worth = torch.arange(12.0)
    # The best of each three, though nine others are worth more than the first of them.
    assert group.best(worth, 4) == [2, 5, 8, 11]
    assert WidthOptions.of(worth.numpy(), 3, GROUPS) == WidthOptions((12,), (66.0,))
    assert WidthOptions.of(worth.numpy(), 2, GROUPS) == WidthOptions((4, 8, 12), (26.0, 48.0, 66.0))


class Recurrent(nn.Module):
    """Reads the rows of a map one after the other."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.rows, self.last = kind(8, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.rows(self.stem(x).mean(3).transpose(1, 2))
        logits: Tensor = self.last(rows[:, -1])
        return logits


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_refused_by_name(kind: type[nn.RNNBase]) -> None:
    with pytest.raises(UserError, match=r"Recurrent cannot be pruned.*recurrent layer 'rows'"):
        PrunableNetwork(Recurrent(kind).eval(), SPEC)


class Awake(nn.Module):
    """Dropout in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = block(3, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(F.dropout(self.stem(x).mean((2, 3)), 0.5))
        return logits


def test_a_network_of_random_answers_is_refused() -> None:
    with pytest.raises(UserError, match=r"Awake gives the same images other .*before layer 'last'"):
        PrunableNetwork(Awake().eval(), SPEC)


def built(num_classes: int) -> nn.Module:
    """A builder that candidates name."""
    assert num_classes == CLASSES
    return made_of([("wider", "group"), ("residual", "batch"), ("concatenation", "batch")])


def test_the_network_read_again_and_its_file_have_the_planned_layers(tmp_path: Path) -> None:
    allowed = ("tests",)
    candidate = Candidate.create(f"{__name__}:built", {}, SPEC, ("built",), 0, allowed)
    prunable = PrunableNetwork(candidate.model, SPEC)
    worth = [torch.arange(float(group.channels)) for group in prunable.groups]
    widths = [group.channels // (3 * group.blocks) * group.blocks or 2 for group in prunable.groups]
    narrow = prunable.narrow(most_important(prunable.groups, worth, widths))
    replace(candidate, model=narrow).save(tmp_path, {}, {})
    again = Candidate.load(tmp_path, allowed)
    assert torch.equal(outputs(again.model), outputs(narrow))

    planned = prunable.shapes_at(widths)
    assert layer_shapes(again.model, prunable.example) == planned
    path = tmp_path / "model.onnx"
    export_onnx(again, path)
    images = np.random.default_rng(0).normal(size=(4, 3, SIZE, SIZE)).astype(np.float32)
    assert check_export(again, path, images) < 1e-4
    assert sorted(map(str, file_layer_shapes(path).values())) == sorted(map(str, planned.values()))
