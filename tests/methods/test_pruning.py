"""Pruning real networks: nothing but the right channels goes, and what goes is worth least."""

import contextlib
import copy
import functools
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from compress.data.input_spec import InputSpec
from compress.measure.module_shapes import layer_shapes
from compress.methods.prune.channel_groups import PrunableNetwork, most_important
from compress.methods.prune.importance import bn_scale, magnitude, taylor
from compress.models.layer_patterns import matching
from compress.models.structure import restructure
from compress.tasks import task_of
from compress.utils.errors import UserError
from students.mobilenet import mobilenet_v2, mobilenet_v3_small
from teachers.vgg import vgg16_bn

SIZE, CLASSES = 32, 5
SPEC = InputSpec(
    height=SIZE,
    width=SIZE,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    fit="stretch",
    classes=[str(number) for number in range(CLASSES)],
)


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 2)], num_classes=CLASSES)


def without_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2),
        nn.PReLU(12),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 20),
        nn.ReLU(),
        nn.Linear(20, CLASSES),
    )


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "vgg": lambda: vgg16_bn(CLASSES, pool=1, classifier_width=16, width=0.2),
    "without batch norm": without_batch_norm,
    "mobilenet_v2": lambda: mobilenet_v2(num_classes=CLASSES, width_mult=0.35),
    "mobilenet_v3_small": lambda: mobilenet_v3_small(num_classes=CLASSES),
    "resnet18": lambda: models.resnet18(num_classes=CLASSES),
    "densenet": lambda: models.DenseNet(8, (2, 3, 2), 16, num_classes=CLASSES),
    "regnet_y_400mf": lambda: models.regnet_y_400mf(num_classes=CLASSES),
    "squeezenet": lambda: models.squeezenet1_1(num_classes=CLASSES),
    "convnext": convnext,
}


def network(name: str, seed: int = 0) -> nn.Module:
    """With statistics and scales as training leaves them: none at 0 or 1."""
    torch.manual_seed(seed)
    model = BUILDERS[name]().eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.2, 0.2)
    return model


@functools.cache
def pruned(name: str) -> PrunableNetwork:
    return PrunableNetwork(network(name), SPEC)


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, SIZE, SIZE, generator=generator)


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(images())
    return found


def random_worth(prunable: PrunableNetwork) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(group.channels, generator=generator) for group in prunable.groups]


def silence(prunable: PrunableNetwork, model: nn.Module, channels: Sequence[Tensor]) -> None:
    """Sets to zero what makes these channels of each group, and each batch norm behind it."""
    modules = dict(model.named_modules())
    for library, gone in zip(prunable.library_groups, channels, strict=True):
        for item in library:
            dep = item.dep
            is_norm = isinstance(dep.target.module, _BatchNorm)
            if is_norm or prunable.graph.is_out_channel_pruning_fn(dep.handler):
                places = [
                    i
                    for i, root in zip(item.idxs, item.root_idxs, strict=True)
                    if root in set(gone.tolist())
                ]
                name = prunable.names.get(dep.target.module)
                parameters = modules[name].parameters(recurse=False) if name else ()
                for parameter in parameters:
                    parameter.data[places] = 0.0


@pytest.mark.parametrize("name", BUILDERS)
def test_at_full_width_nothing_changes(name: str) -> None:
    prunable = pruned(name)
    full = [group.channels for group in prunable.groups]
    same = prunable.narrow(most_important(prunable.groups, random_worth(prunable), full))
    assert torch.equal(outputs(same), outputs(network(name)))


@pytest.mark.parametrize("name", BUILDERS)
def test_shapes_are_those_of_the_narrowed_network(name: str) -> None:
    prunable = pruned(name)
    widths = [max(1, group.channels * (3 + i % 4) // 7) for i, group in enumerate(prunable.groups)]
    model = prunable.narrow(most_important(prunable.groups, random_worth(prunable), widths))
    assert prunable.shapes_at(widths) == layer_shapes(model, prunable.example)


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_shapes_at_any_width(data: st.DataObject) -> None:
    prunable = pruned("mobilenet_v2")
    widths = [data.draw(st.integers(1, group.channels)) for group in prunable.groups]
    model = prunable.narrow(most_important(prunable.groups, random_worth(prunable), widths))
    assert prunable.shapes_at(widths) == layer_shapes(model, prunable.example)


# Layer norms compute over all channels: without the silent ones they give something else.
@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "convnext"])
def test_what_goes_is_what_was_chosen(name: str) -> None:
    """Removing channels is the same as never making them."""
    prunable, worth = pruned(name), random_worth(pruned(name))
    widths = [max(1, group.channels // 2) for group in prunable.groups]
    removed = [
        w.argsort()[: group.channels - width]
        for w, width, group in zip(worth, widths, prunable.groups, strict=True)
    ]
    silent = copy.deepcopy(prunable.model)
    silence(prunable, silent, removed)
    expected = outputs(silent)
    assert not torch.allclose(expected, outputs(prunable.model), rtol=1e-3)
    torch.testing.assert_close(
        outputs(prunable.narrow(most_important(prunable.groups, worth, widths))), expected
    )


@pytest.mark.parametrize("name", BUILDERS)
def test_a_fresh_network_takes_the_structure(name: str) -> None:
    prunable = pruned(name)
    widths = [max(1, 2 * group.channels // 3) for group in prunable.groups]
    narrow = prunable.narrow(most_important(prunable.groups, random_worth(prunable), widths))
    fresh = network(name, seed=5)
    restructure(fresh, (), narrow.state_dict())
    fresh.load_state_dict(narrow.state_dict())
    assert torch.equal(outputs(fresh), outputs(narrow))
    assert layer_shapes(fresh, prunable.example) == layer_shapes(narrow, prunable.example)


def test_the_network_given_stays_as_it_is() -> None:
    model = network("mobilenet_v3_small").train()
    for parameter in model.features.parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    prunable = PrunableNetwork(model, SPEC)
    taylor(prunable, [images()], contextlib.nullcontext, drawn_loss)
    assert model.training
    assert not any(p.requires_grad or p.grad is not None for p in model.features.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    narrow = prunable.narrow([range(g.channels) for g in prunable.groups])
    assert all(p.requires_grad and p.grad is None for p in narrow.parameters())


def drawn_loss(outputs: Tensor) -> Tensor:
    return task_of(SPEC).drawn_loss({"logits": outputs})


def by_taylor(prunable: PrunableNetwork) -> list[Tensor]:
    torch.manual_seed(3)
    return taylor(prunable, [images(2), images(1)], contextlib.nullcontext, drawn_loss)


IMPORTANCES: dict[str, Callable[[PrunableNetwork], list[Tensor]]] = {
    "magnitude": magnitude,
    "bn_scale": bn_scale,
    "taylor": by_taylor,
}


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("name", ["vgg", "mobilenet_v2", "resnet18"])
def test_a_dead_channel_goes_first(name: str, importance: str) -> None:
    prunable = PrunableNetwork(network(name), SPEC)
    dead = [torch.tensor([group.channels // 3]) for group in prunable.groups]
    silence(prunable, prunable.model, dead)
    if importance == "magnitude":  # looks at what reads the channel, too
        for library, (channel,) in zip(prunable.library_groups, dead, strict=True):
            for item in library:
                module = item.dep.target.module
                if isinstance(module, nn.Linear | nn.Conv2d) and not (
                    prunable.graph.is_out_channel_pruning_fn(item.dep.handler)
                ):
                    places = [
                        i
                        for i, root in zip(item.idxs, item.root_idxs, strict=True)
                        if root == channel
                    ]
                    module.weight.data[:, places] = 0.0
    worth = IMPORTANCES[importance](prunable)
    for w, (channel,) in zip(worth, dead, strict=True):
        assert w[channel] == 0 and w.any() and (w >= 0).all()
    # Were the dead ones not the first to go, one that matters would.
    narrow = prunable.narrow(
        most_important(prunable.groups, worth, [group.channels - 1 for group in prunable.groups])
    )
    torch.testing.assert_close(outputs(narrow), outputs(prunable.model))


class Gated(nn.Module):
    """A residual block and a hidden layer, with a factor on every channel of both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6)])
        self.hidden, self.last = nn.Linear(6 * 4, 7), nn.Linear(7, CLASSES)
        self.gates: Sequence[Tensor | float] = (1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        stream, hidden = self.gates
        x = F.relu(stream * self.norms[0](self.first(x)))
        x = F.relu(x + stream * self.norms[1](self.second(x)))
        x = F.adaptive_avg_pool2d(x, 2).flatten(1)
        logits: Tensor = self.last(F.relu(hidden * self.hidden(x)))
        return logits


def test_taylor_is_the_squared_derivative_by_a_gate() -> None:
    torch.manual_seed(0)
    model = Gated().eval()
    prunable = PrunableNetwork(model, SPEC)
    batches = [images(4), images(3).flip(0)]
    torch.manual_seed(9)
    found = {
        group.root: worth
        for group, worth in zip(
            prunable.groups,
            taylor(prunable, batches, contextlib.nullcontext, drawn_loss),
            strict=True,
        )
    }
    torch.manual_seed(9)
    stream, hidden = torch.zeros(6), torch.zeros(7)
    for batch in batches:
        gates = torch.ones(6, 1, 1, requires_grad=True), torch.ones(7, requires_grad=True)
        model.gates = gates
        logits = model(batch)
        labels = torch.multinomial(logits.detach().softmax(1), 1).squeeze(1)
        loss = -logits.log_softmax(1)[range(len(batch)), labels].sum()
        by_stream, by_hidden = torch.autograd.grad(loss, gates)
        stream += by_stream.flatten() ** 2
        hidden += by_hidden**2
    assert set(found) - {"hidden"} <= {"first", "second"} and len(found) == 2
    torch.testing.assert_close(found.pop("hidden"), hidden, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(*found.values(), stream, rtol=1e-4, atol=1e-7)


def test_a_group_of_zeros_is_worth_nothing() -> None:
    prunable = PrunableNetwork(network("vgg"), SPEC)
    first = next(m for m in prunable.model.modules() if isinstance(m, nn.BatchNorm2d))
    nn.init.zeros_(first.weight)
    worth = bn_scale(prunable)
    assert sum(not w.any() for w in worth) == 1
    assert all(w.isfinite().all() for w in worth)


def test_bn_scale_needs_batch_norms() -> None:
    with pytest.raises(UserError, match=r"channels of \d cannot be ranked.* no batch norm"):
        bn_scale(pruned("without batch norm"))


def test_grouped_convolutions_keep_their_width() -> None:
    prunable = pruned("regnet_y_400mf")
    shapes = prunable.shapes_at([1] * len(prunable.groups))
    assert len(prunable.grouped) == 16
    for name in prunable.grouped:
        assert shapes[name] == prunable.shapes[name]
    assert any(shapes[name] != prunable.shapes[name] for name in shapes)


def test_layers_that_are_ignored_keep_their_width() -> None:
    prunable = PrunableNetwork(network("vgg"), SPEC, ["features.0", "classifier.*"])
    outs = {name for group in prunable.groups for name in group.outputs}
    assert outs == {f"features.{i}" for i in (3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)}


def test_the_last_layer_keeps_its_width() -> None:
    assert all("classifier.9" not in group.outputs for group in pruned("vgg").groups)


def test_nothing_left_to_prune() -> None:
    with pytest.raises(UserError, match="nothing to prune"):
        PrunableNetwork(network("vgg"), SPEC, ["*"])


@pytest.mark.parametrize(
    ("pattern", "offered"), [("feature.0", "features.0"), ("clasifier.*", "classifier."), ("", "")]
)
def test_a_pattern_that_matches_nothing(pattern: str, offered: str) -> None:
    with pytest.raises(UserError, match=f"matches no layer. Did you mean .*{offered}"):
        PrunableNetwork(network("vgg"), SPEC, [pattern])


def test_patterns_in_the_order_given() -> None:
    assert list(matching(["b*", "a?"], ["a1", "b1", "b22", "c"])) == ["b1", "b22", "a1"]


class Shuffled(nn.Module):
    """Channels change places on their way between two convolutions."""

    def __init__(self, shuffle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.last = nn.Linear(8, CLASSES)
        self.shuffle = shuffle

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.second(self.shuffle(self.first(x))).mean((2, 3)))
        return logits


def by_views(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


ORDER = torch.tensor([3, 1, 2, 0, 7, 6, 5, 4])


@pytest.mark.parametrize(
    ("shuffle", "named"),
    [
        (by_views, "view of axes in another order.* test_pruning.py:.*contiguous"),
        (lambda x: x[:, ORDER], "indexing .* test_pruning.py:.*ORDER"),
        (lambda x: x[:, [1, 0, 2, 3, 4, 5, 7, 6]], "indexing"),
        (lambda x: x.index_select(1, ORDER), "index_select"),
        (nn.ChannelShuffle(2), "channel_shuffle"),
        (lambda x: F.pixel_shuffle(x, 2).repeat(1, 4, 1, 1), "pixel_shuffle"),
        (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), 8, 30, 30), "reshape of axes"),
    ],
)
def test_channels_that_change_places_are_refused(
    shuffle: Callable[[Tensor], Tensor], named: str
) -> None:
    with pytest.raises(UserError, match=f"Shuffled cannot be pruned.*{named}.*distill"):
        PrunableNetwork(Shuffled(shuffle), SPEC)


@pytest.mark.parametrize(
    "shuffle",
    [
        nn.Identity(),
        lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2).reshape(x.shape),
        lambda x: x[:, :, 1:-1, ::2],
        lambda x: x * 2 if x.sum() > 0 else x,
    ],
)
def test_channels_that_stay_are_not(shuffle: Callable[[Tensor], Tensor]) -> None:
    assert len(PrunableNetwork(Shuffled(shuffle), SPEC).groups) == 2


class PartlyAdded(nn.Module):
    """As ReXNet: what a layer read is added to the first of the channels that it made."""

    def __init__(self, widths: Sequence[int] = (4, 6, 8, 10, 12, 14)) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, widths[0], 1)
        self.layers = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in pairwise(widths))
        self.last = nn.Linear(widths[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            made, count = layer(x), x.shape[1]
            x = torch.cat([made[:, :count] + x, made[:, count:]], 1)
        return self.last(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (PartlyAdded, "PartlyAdded cannot be pruned.* a concatenation of slices to have"),
        (lambda: models.shufflenet_v2_x0_5(num_classes=CLASSES), "view .* at shufflenetv2.py"),
        (lambda: models.swin_t(num_classes=CLASSES), "at swin_transformer.py"),
        (
            lambda: models.VisionTransformer(SIZE, 16, 1, 2, 16, 32, num_classes=CLASSES),
            "at vision_transformer.py.*, x = x.reshape",
        ),
        (
            # A layer that mixes columns of a map where channels are expected.
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(SIZE, 8), nn.Conv2d(4, 5, 1)),
            "Sequential cannot be pruned.*Error: ",
        ),
    ],
)
def test_networks_that_cannot_be_followed(model: Callable[[], nn.Module], named: str) -> None:
    with pytest.raises(UserError, match=named):
        PrunableNetwork(model(), SPEC)
