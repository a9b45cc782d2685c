"""Channels that must be removed together, what they are worth, and removing them.

Dependencies between layers are found by Torch-Pruning (Fang et al. 2023, arXiv:2301.12900).
"""

import copy
import linecache
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import inf, lcm
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.overrides import TorchFunctionMode
from torch_pruning.dependency.index_mapping import update_index_mapping

from compress.data.input_spec import InputSpec
from compress.measure.layer_times import LayerShape
from compress.measure.module_shapes import layer_shapes
from compress.methods.prune.equivalence import (
    ANSWER,
    Removed,
    first_unlike,
    randomly_drawn,
    task_outputs,
)
from compress.models.layer_patterns import matching
from compress.models.repeatability import refuse_unrepeatable
from compress.models.structure import restructure
from compress.runtimes.outputs import in_order
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
                operation that stands in the way.
        """
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
            with _ChannelsStay() as seen:
                self.shapes = layer_shapes(self.model, self.example)
            self.graph = _dependencies(self.model, self.example)
            _refuse_too_wide(self.graph, seen.widest)
            kept |= _last_layers(self.model, self.example, spec, self.shapes)
            kept |= layers.keys() - self.shapes.keys()  # heads that serve training only
            ignored = [layers[name] for name in kept if name in layers]
            found = list(self.graph.get_all_groups(ignored, (nn.Conv2d, nn.Linear)))
        except Exception as error:
            raise UserError(f"{_cannot(model, error)} {INSTEAD}.") from error
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
                raise _Unfollowable(f"layer {empty[0]!r} would have no channel left")
            tensors = self._cut(copy.deepcopy(model), stay).state_dict()
            narrow = copy.deepcopy(model)
            restructure(narrow, (), tensors)
            narrow.load_state_dict(tensors)
            self._compare(narrow, planned)
            unlike = first_unlike(copy.deepcopy(model), narrow, removed, self.images, self.outputs)
            if unlike is not None:
                where = unlike if unlike == ANSWER else f"layer {unlike!r}"
                raise _Unfollowable(
                    f"{where} is computed from other channels than those that stay (slices by "
                    "number or with a step, channels that are mixed outside layers)"
                )
        except Exception as error:
            raise UserError(
                f"{_cannot(model, error)} {INSTEAD}, or leave the layers out with ignore."
            ) from error
        return narrow

    def _cut(self, model: nn.Module, kept: Sequence[set[int]]) -> nn.Module:
        """Remove the other channels of each group, in place, and return the model."""
        modules = dict(model.named_modules())
        graph = _dependencies(model, self.example)
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
            _Unfollowable: names the first layer that has another.
        """
        found = layer_shapes(narrow, self.example)
        for name, shape in planned.items():
            if found.get(name) != shape:
                has, wanted = _sizes(found.get(name)), _sizes(shape)
                raise _Unfollowable(
                    f"layer {name!r} has {has} channels where {wanted} were planned"
                )

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


def _dependencies(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    def run(model: nn.Module, given: tuple[Tensor]) -> Any:
        # Heads that serve training only read channels, too. Norms and dropout stay as they are.
        parents = [module for module in model.modules() if list(module.children())]
        for module in parents if _gives_more_in_training(model, example) else []:
            module.training = True
        try:
            return model(*given)
        finally:
            model.eval()

    # In a tuple, or the library first tries the image without its batch dimension.
    return tp.DependencyGraph().build_dependency(
        model, (example,), forward_fn=run, output_transform=in_order, verbose=False
    )


def _refuse_too_wide(graph: tp.DependencyGraph, widest: float) -> None:
    """Refuse a graph that joins more channels than any concatenation has: it has no end.

    Torch-Pruning miscounts slices behind each other of which some are added to, and follows the
    channels that are not there for ever.

    Args:
        widest: channels of the widest concatenation that the network really makes.
    """
    update_index_mapping(graph)
    for node in graph.module2node.values():
        offsets = getattr(node.module, "offsets", None) or [0]
        if node.type == tp.ops.OPTYPE.CONCAT and offsets[-1] > widest:
            raise _Unfollowable(
                f"it takes a concatenation of slices to have {offsets[-1]} channels, "
                f"and the widest has {widest:g}"
            )


def _gives_more_in_training(model: nn.Module, example: Tensor) -> bool:
    """Return whether the network has outputs in training that it has not otherwise."""
    images, trial = example.repeat(2, 1, 1, 1), copy.deepcopy(model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return len(in_order(trial.train()(images))) > len(in_order(trial.eval()(images)))


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


def _cannot(model: nn.Module, error: Exception) -> str:
    recurrent = [n for n, m in model.named_modules() if isinstance(m, nn.RNNBase)]
    if recurrent:
        reason = f"its recurrent layer {recurrent[0]!r}"
    elif isinstance(error, _Unfollowable):
        reason = str(error)
    else:
        first = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first}{_layer(error)}"
    where = _own_line(error)
    return (
        f"{type(model).__name__} cannot be pruned, Torch-Pruning does not follow it: {reason}"
        f"{f' at {where}' if where else ''}."
    )


def _layer(error: Exception) -> str:
    """Return the innermost layer of the network that the error came through, if any."""
    through = [frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__)]
    modules = [module for module in through if isinstance(module, nn.Module)]
    names = (n for n, m in modules[0].named_modules() if m is modules[-1]) if modules else iter(())
    name = next(names, "")
    return f" in layer {name!r}" if name else ""


def _own_line(error: Exception) -> str:
    """Return the innermost line of the network's own code that the error came through, if any."""
    for frame, number in reversed(list(walk_tb(error.__traceback__))):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("torch", "torch_pruning", "compress"):
            file = frame.f_code.co_filename
            return f"{Path(file).name}:{number}, {linecache.getline(file, number).strip()}"
    return ""


class _Unfollowable(Exception):
    """An operation that Torch-Pruning would take for an element-wise one."""


class _ChannelsStay(TorchFunctionMode):
    """Refuses networks in which channels change places.

    Torch-Pruning would cut the wrong channels, divide by zero (ShuffleNet) or never end (Swin).
    """

    SWAPS = ("transpose", "permute", "swapaxes", "swapdims", "movedim")
    RESHAPES = ("view", "reshape", "flatten", "unflatten")
    JOINS = ("cat", "concat", "concatenate")
    MOVES = ("index_select", "gather", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle")

    def __init__(self) -> None:
        super().__init__()
        # Tensors whose axes are in another order, each with one of sizes 2, 3, 5, … that went
        # through the same swaps.
        self.swapped: list[tuple[Tensor, Tensor]] = []
        # Channels of the widest concatenation; without bound where tokens are concatenated.
        self.widest = 0.0

    def __torch_function__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        source = args[0] if args else None
        order = next((order for tensor, order in self.swapped if tensor is source), None)
        if name in self.MOVES or (name == "__getitem__" and _by_number(args[1])):
            moved = "indexing" if name == "__getitem__" else name
            raise _Unfollowable(f"{moved} lets channels change places")
        if order is not None and name in self.RESHAPES:
            raise _Unfollowable(
                f"{name} of axes in another order lets channels change places (a channel shuffle)"
            )
        result = func(*args, **kwargs)
        if name in self.JOINS:
            self.widest = max(self.widest, result.shape[1] if result.ndim == 4 else inf)
        if name in self.SWAPS and isinstance(source, Tensor):
            start = torch.empty((2, 3, 5, 7, 11, 13, 17, 19)[: source.ndim], device="meta")
            order = func(start if order is None else order, *args[1:], **kwargs)
            if list(order.shape) == sorted(order.shape):
                order = None
        if order is not None and getattr(result, "ndim", None) == order.ndim:
            self.swapped.append((result, order))
        return result


def _by_number(index: object) -> bool:
    """Return whether x[index] picks elements one by one, in any order."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor | np.ndarray | list) for part in parts)


def magnitude(prunable: PrunableNetwork) -> list[Tensor]:
    """Return the squared L2 norm over all weights of a channel, divided by the group's mean."""
    return _of_library(prunable, tp.importance.GroupMagnitudeImportance(p=2, normalizer="mean"))


def bn_scale(prunable: PrunableNetwork) -> list[Tensor]:
    """Return the batch norm's scale, divided by the group's mean.

    Liu et al. 2017, arXiv:1708.06519.

    Raises:
        UserError: a group without a batch norm.
    """
    return _of_library(prunable, tp.importance.BNScaleImportance(normalizer="mean"))


def _of_library(prunable: PrunableNetwork, importance: tp.importance.Importance) -> list[Tensor]:
    found = []
    for group, library in zip(prunable.groups, prunable.library_groups, strict=True):
        worth = importance(library)
        if worth is None:
            raise UserError(
                f"The channels of {group.root} cannot be ranked: it has no batch norm. Use "
                "importance: magnitude or taylor."
            )
        # A group of nothing but zeros has no mean to be divided by; it is worth nothing.
        found.append(worth.detach().float().nan_to_num(0.0))
    return found


def taylor(
    prunable: PrunableNetwork,
    batches: Iterable[Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
    drawn_loss: Callable[[Any], Tensor],
) -> list[Tensor]:
    """Estimate how much the answers would change without a channel, to second order.

    The squared derivative of the loss by a gate on the channel (Molchanov et al. 2019,
    arXiv:1906.10771), summed over batches. Labels are drawn from the network's own answers, so
    that this is the Fisher information (Theis et al. 2018, arXiv:1801.05787): it does not vanish
    where the network already fits its labels. Comparable between layers.

    Args:
        batches: images, float32 (n, channels, height, width), on the device to compute on.
        drawn_loss: of what the network gives, against labels drawn from what it says, summed.
    """
    model = prunable.model
    sums = [torch.zeros(group.channels) for group in prunable.groups]
    for images in batches:
        model.to(images.device)
        model.zero_grad(set_to_none=True)
        with autocast():
            outputs = model(images)
        drawn_loss(outputs).backward()  # type: ignore[no-untyped-call]
        for total, library in zip(sums, prunable.library_groups, strict=True):
            total += _gate_gradient(prunable.graph, library) ** 2
    model.zero_grad(set_to_none=True)
    model.cpu()
    return sums


def _gate_gradient(graph: tp.DependencyGraph, group: tp.Group) -> Tensor:
    """Return the loss's derivative by a factor on each channel: the sum of weight times gradient.

    The gate stands wherever the channel is made: on the scale and shift of its batch norms, or
    where there are none on what the layers put out.
    """
    norms, makers = [], []
    for item in group:
        module = item.dep.target.module
        if isinstance(module, BatchNorm) and module.affine:
            norms.append(item)
        elif isinstance(module, nn.Conv2d | nn.Linear) and graph.is_out_channel_pruning_fn(
            item.dep.handler
        ):
            makers.append(item)
    total = torch.zeros(len(group[0].idxs))
    for item in norms or makers:
        parameters = item.dep.target.module.parameters(recurse=False)
        terms = [p.detach() * p.grad for p in parameters if p.grad is not None]
        if terms:
            by_output = torch.stack([t.flatten(1).sum(1) if t.ndim > 1 else t for t in terms])
            gates = by_output.sum(0)[torch.as_tensor(item.idxs)].cpu()
            total.index_add_(0, torch.as_tensor(item.root_idxs), gates)
    return total
