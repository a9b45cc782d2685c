"""Channels that must be removed together, and removing them."""

import copy
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.measure.layer_times import LayerShape
from compress.measure.module_shapes import layer_shapes
from compress.methods.prune.dependencies import (
    ChannelsStay,
    Unfollowable,
    cannot,
    dependencies,
    refuse_too_wide,
)
from compress.methods.prune.equivalence import (
    ANSWER,
    Removed,
    first_unlike,
    randomly_drawn,
    task_outputs,
)
from compress.models.layer_patterns import matching
from compress.models.reparametrized import reparametrized
from compress.models.repeatability import refuse_unrepeatable
from compress.models.structure import restructure
from compress.utils.errors import UserError

INSTEAD = "Distil into a narrower student instead (- distill: {student: …})"


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of one width: pruning one of them takes a channel from every layer here."""

    root: str  # the layer that names the group
    channels: int
    outputs: dict[str, float]  # layers that make the channels: which share of them
    inputs: dict[str, float]  # layers that read them: features read per channel
    blocks: int = 1  # consecutive blocks that keep equally many, the groups of group norms
    parts: tuple[tuple[int, ...], ...] = ()  # channels of layers that make only some of them

    def best(self, importance: Tensor, width: int) -> list[int]:
        """Return so many channels, those that are worth most.

        Equally many of each block, and of each part at least one where the width has room.
        """
        worth = importance.clone()
        for part in self.parts:
            worth[part[int(worth[list(part)].argmax())]] = torch.inf
        worth = worth.reshape(self.blocks, -1)
        order = worth.argsort(stable=True)[:, worth.shape[1] - width // self.blocks :]
        starts = torch.arange(self.blocks)[:, None] * worth.shape[1]
        found: list[int] = (order + starts).flatten().sort().values.tolist()
        return found

    def describe(self, width: int) -> str:
        return f"{self.channels} → {width} channels"


class PrunableNetwork:
    """A network's channel groups and layer shapes, and how to narrow it.

    Grouped convolutions keep their width, unless they are depthwise: the same channels would have
    to go from each of their groups.
    """

    def __init__(self, model: nn.Module, spec: InputSpec, ignore: Sequence[str] = ()) -> None:
        """
        Args:
            model: stays as it is.
            ignore: names of layers (with * and ?) whose outputs keep their width; the last
                layer's always do.

        Raises:
            UserError: a pattern that matches nothing; a network that cannot be followed, with the
                operation or the layer that stands in the way.
        """
        if computed := reparametrized(model):
            raise UserError(f"{type(model).__name__} cannot be pruned: {computed}.")
        # The graph is traced by gradients, and the importance of channels may be computed by them.
        self.model = copy.deepcopy(model).eval().cpu().requires_grad_(True)
        self.example = torch.zeros(1, *spec.shape)
        self.outputs = spec.outputs
        drawn = torch.Generator().manual_seed(0)
        self.images = torch.randn(2, *spec.shape, generator=drawn)
        self.names = {module: name for name, module in self.model.named_modules()}
        layers = {n: m for m, n in self.names.items() if isinstance(m, nn.Conv2d | nn.Linear)}
        kept = set(matching(ignore, list(layers)))
        self.parameters = {p: name for name, p in self.model.named_parameters()}
        try:
            with ChannelsStay() as seen:
                self.shapes = layer_shapes(self.model, self.example)
            self.graph = dependencies(self.model, self.example)
            refuse_too_wide(self.graph, seen.widest)
            kept |= _last_layers(self.model, self.example, spec, self.shapes)
            kept |= layers.keys() - self.shapes.keys()  # heads that serve training only
            ignored = [layers[name] for name in kept if name in layers]
            found = list(self.graph.get_all_groups(ignored, (nn.Conv2d, nn.Linear)))
        except Exception as error:
            raise UserError(f"{cannot(model, error)} {INSTEAD}.") from error
        self.grouped = [n for n, m in layers.items() if _is_grouped(m)]
        self.bound = [
            self.names[group[0].dep.target.module]
            for group in found
            if not _blocks(group) and not any(_is_grouped(i.dep.target.module) for i in group)
        ]
        self.library_groups = [g for g in found if _blocks(g)]
        self.groups = [self._group(group) for group in self.library_groups]
        if not self.groups:
            raise UserError(
                "There is nothing to prune: every layer is ignored, or bound to a grouped "
                "convolution or to a group norm."
            )
        refuse_unrepeatable(self.model, self.images, type(model).__name__)
        self._narrowed: dict[tuple[str, int, int], LayerShape] = {}
        # Half of the channels, tried now: better than after training and computing the importance.
        worth = [torch.rand(group.channels, generator=drawn) for group in self.groups]
        halves = [
            max(len(g.parts), g.blocks * max(1, g.channels // g.blocks // 2)) for g in self.groups
        ]
        half = most_important(self.groups, worth, halves)
        self._checked(randomly_drawn(copy.deepcopy(self.model)), half)

    def _group(self, group: tp.Group) -> ChannelGroup:
        parts: list[tuple[int, ...]] = []
        outputs: dict[str, float] = defaultdict(float)
        inputs: dict[str, float] = defaultdict(float)
        channels = len(group[0].idxs)
        for item in group:
            module = item.dep.target.module
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            makes = self.graph.is_out_channel_pruning_fn(item.dep.handler)
            (outputs if makes else inputs)[self.names[module]] += len(item.idxs) / channels
            if makes and len(item.idxs) < channels:
                parts.append(tuple(item.root_idxs))
        root = self.names[group[0].dep.target.module]
        blocks = _blocks(group)
        return ChannelGroup(root, channels, dict(outputs), dict(inputs), blocks, tuple(parts))

    def shapes_at(self, widths: Sequence[int]) -> dict[str, LayerShape]:
        """Return the shape of every layer when each group has so many channels left.

        Layers that make only some of a group's channels (their outputs are concatenated) are taken
        to lose the same share of them.
        """
        out_removed: dict[str, float] = defaultdict(float)
        in_removed: dict[str, float] = defaultdict(float)
        for group, width in zip(self.groups, widths, strict=True):
            removed = group.channels - width
            for name, share in group.outputs.items():
                out_removed[name] += removed * share
            for name, features in group.inputs.items():
                in_removed[name] += removed * features
        return {
            name: self._shape(name, round(in_removed[name]), round(out_removed[name]))
            for name in self.shapes
        }

    def _shape(self, name: str, fewer_inputs: int, fewer_outputs: int) -> LayerShape:
        """Return a layer's shape; kept, since allocating widths asks for the same ones again."""
        key = (name, fewer_inputs, fewer_outputs)
        if key not in self._narrowed:
            shape = self.shapes[name]
            outputs = shape.out_channels - fewer_outputs
            if shape.is_depthwise:
                new = replace(shape, in_channels=outputs, out_channels=outputs, groups=outputs)
            else:
                inputs = shape.in_channels - fewer_inputs
                new = replace(shape, in_channels=inputs, out_channels=outputs)
            self._narrowed[key] = new
        return self._narrowed[key]

    def narrow(self, kept: Sequence[Collection[int]]) -> nn.Module:
        """Return a copy of the network in which each group keeps these of its channels.

        Raises:
            UserError: it is not this network without the other channels, which Torch-Pruning did
                not foresee; names the layer where that shows.
        """
        return self._checked(self.model, kept)

    def _checked(self, model: nn.Module, kept: Sequence[Collection[int]]) -> nn.Module:
        """Return `model`, which is built as the network is, narrowed as its file will be read."""
        stay = [set(channels) for channels in kept]
        removed = list(self._removed(stay))
        planned = self._planned(removed)
        try:
            if empty := [name for name, shape in planned.items() if shape.out_channels < 1]:
                raise Unfollowable(f"layer {empty[0]!r} would have no channel left")
            tensors = self._cut(copy.deepcopy(model), stay).state_dict()
            narrow = copy.deepcopy(model)
            restructure(narrow, (), tensors)
            narrow.load_state_dict(tensors)
            self._compare(narrow, planned)
            unlike = first_unlike(copy.deepcopy(model), narrow, removed, self.images, self.outputs)
            if unlike is not None:
                where = unlike if unlike == ANSWER else f"layer {unlike!r}"
                raise Unfollowable(
                    f"{where} is computed from other channels than those that stay (slices by "
                    "number or with a step, channels that are mixed outside layers)"
                )
        except Exception as error:
            raise UserError(
                f"{cannot(model, error)} {INSTEAD}, or leave the layers out with ignore."
            ) from error
        return narrow

    def _cut(self, model: nn.Module, kept: Sequence[set[int]]) -> nn.Module:
        """Remove the other channels of each group, in place, and return the model."""
        modules = dict(model.named_modules())
        graph = dependencies(model, self.example)
        for group, stay in zip(self.groups, kept, strict=True):
            removed = [i for i in range(group.channels) if i not in stay]
            if removed:
                root = modules[group.root]
                prune = graph.get_pruner_of_module(root).prune_out_channels
                graph.get_pruning_group(root, prune, removed).prune()
        return model

    def _compare(self, narrow: nn.Module, planned: dict[str, LayerShape]) -> None:
        """Compare the shapes of a network's layers with the planned ones.

        Raises:
            Unfollowable: names the first layer that has another.
        """
        found = layer_shapes(narrow, self.example)
        for name, shape in planned.items():
            if found.get(name) != shape:
                has, wanted = _sizes(found.get(name)), _sizes(shape)
                raise Unfollowable(f"layer {name!r} has {has} channels where {wanted} were planned")

    def _planned(self, removed: Iterable[Removed]) -> dict[str, LayerShape]:
        """Return the shape that every layer must have without these channels."""
        fewer: dict[tuple[str, bool], int] = defaultdict(int)
        for item in removed:
            fewer[item.name, item.is_output] += len(item.places)
        return {n: self._shape(n, fewer[n, False], fewer[n, True]) for n in self.shapes}

    def _removed(self, kept: Sequence[set[int]]) -> Iterator[Removed]:
        """Say where in the full network the channels are that do not stay."""
        for library, stay in zip(self.library_groups, kept, strict=True):
            for item in library:
                module, node = item.dep.target.module, item.dep.target
                name = self.names.get(module) or self.parameters.get(module)
                if name is None:  # an operation, which has no weights
                    continue
                pairs = zip(item.idxs, item.root_idxs, strict=True)
                places = [place for place, root in pairs if root not in stay]
                is_output = self.graph.is_out_channel_pruning_fn(item.dep.handler)
                yield Removed(name, is_output, node.pruning_dim, places)


def most_important(
    groups: Sequence[ChannelGroup], importance: Sequence[Tensor], widths: Sequence[int]
) -> list[list[int]]:
    """Return of each group so many channels as its width says, those that are worth most."""
    rows = zip(groups, importance, widths, strict=True)
    return [group.best(worth, width) for group, worth, width in rows]


def _blocks(group: tp.Group) -> int:
    """Return in how many blocks equally many channels must go; 0 where none can.

    Not bound to a grouped convolution, nor to a group norm over a concatenation. Group norms keep
    their groups, each of which loses equally many.
    """
    blocks, channels = 1, len(group[0].idxs)
    for item in group:
        module = item.dep.target.module
        if _is_grouped(module):
            return 0
        if isinstance(module, nn.GroupNorm):
            own = list(range(module.num_channels))
            if any(list(places) != own for places in (range(channels), item.idxs, item.root_idxs)):
                return 0
            blocks = lcm(blocks, module.num_groups)
    return blocks if blocks < channels or blocks == 1 else 0


def _is_grouped(module: nn.Module) -> bool:
    """Return whether a layer has neither one group nor as many as there are channels."""
    return isinstance(module, nn.Conv2d) and not (
        module.groups == 1 or module.groups == module.in_channels == module.out_channels
    )


def _last_layers(
    model: nn.Module, example: Tensor, spec: InputSpec, layers: Iterable[str]
) -> set[str]:
    """Return of each of the task's outputs the layer that makes it.

    Args:
        layers: names, as the network runs them.
    """
    weights: dict[str, Any] = {name: model.get_submodule(name).weight for name in layers}
    found: set[str] = set()
    for output in task_outputs(model(example), spec.outputs):
        gradients = torch.autograd.grad(
            output.sum(), list(weights.values()), retain_graph=True, allow_unused=True
        )
        used = [name for name, x in zip(weights, gradients, strict=True) if x is not None]
        found |= set(used[-1:])
    return found


def _sizes(shape: LayerShape | None) -> str:
    return f"{shape.in_channels} → {shape.out_channels}" if shape else "no"
