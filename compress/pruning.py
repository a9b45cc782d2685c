"""Channels that must be removed together, what they are worth, and removing them.

Dependencies between layers are found by Torch-Pruning (Fang et al. 2023, arXiv:2301.12900).
"""

import copy
import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
import torch.fx
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from compress.errors import UserError
from compress.input_spec import InputSpec
from compress.measure.layers import LayerShape

ADVICE = (
    "Distil into a narrower student instead (- distil: {student: …}), or leave the layers out with "
    "ignore."
)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of one width: pruning one of them takes a channel from every layer here."""

    root: str  # the layer that names the group
    channels: int
    outputs: tuple[str, ...]  # layers that make the channels
    inputs: dict[str, int]  # layers that read them: features read per channel

    def describe(self, width: int) -> str:
        return f"{self.channels} → {width} channels"


class Prunable:
    """A network's channel groups and layer shapes, and how to narrow it."""

    def __init__(self, model: nn.Module, spec: InputSpec, ignore: Sequence[str] = ()) -> None:
        """
        Args:
            ignore: names of layers (with * and ?) whose outputs keep their width; the last
                layer's always do.

        Raises:
            UserError: a pattern that matches nothing; a network that cannot be followed, with the
                operation that stands in the way.
        """
        self.model = model.eval().cpu()
        self.example = torch.zeros(1, 3, spec.height, spec.width)
        layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        self.names = {module: name for name, module in model.named_modules()}
        kept = set(matching(ignore, list(layers)))
        self.shapes = layer_shapes(model, self.example)
        _refuse_shuffles(model, self.example)
        self.graph = _dependencies(model, self.example)
        last = list(self.shapes)[-1]
        ignored = [layers[name] for name in layers if name in kept or name == last]
        try:
            found = list(self.graph.get_all_groups(ignored, (nn.Conv2d, nn.Linear)))
        except Exception as error:
            raise UserError(_cannot(model, error)) from error
        self.library_groups = found
        self.groups = [self._group(group) for group in found]
        if not self.groups:
            raise UserError("There is nothing to prune: every layer is ignored.")

    def _group(self, group: tp.Group) -> ChannelGroup:
        outputs: list[str] = []
        inputs: dict[str, int] = {}
        root = group[0].dep.target.module
        channels = len(group[0].idxs)
        for dep, idxs in group:
            name = self.names.get(dep.target.module, "")
            if not isinstance(dep.target.module, nn.Conv2d | nn.Linear):
                continue
            if self.graph.is_out_channel_pruning_fn(dep.handler):
                outputs.append(name)
            else:
                inputs[name] = inputs.get(name, 0) + len(idxs) // channels
        return ChannelGroup(self.names[root], channels, tuple(outputs), inputs)

    def shapes_at(self, widths: Sequence[int]) -> dict[str, LayerShape]:
        """The shape of every layer when each group has so many channels left."""
        out_removed: dict[str, int] = defaultdict(int)
        in_removed: dict[str, int] = defaultdict(int)
        for group, width in zip(self.groups, widths, strict=True):
            removed = group.channels - width
            for name in group.outputs:
                out_removed[name] += removed
            for name, features in group.inputs.items():
                in_removed[name] += removed * features
        return {
            name: _narrowed(shape, in_removed[name], out_removed[name])
            for name, shape in self.shapes.items()
        }

    def narrow(self, widths: Sequence[int], importance: Sequence[Tensor]) -> nn.Module:
        """A copy of the network in which each group keeps its `width` most important channels."""
        model = copy.deepcopy(self.model)
        graph = _dependencies(model, self.example)
        modules = dict(model.named_modules())
        for group, library, width, worth in zip(
            self.groups, self.library_groups, widths, importance, strict=True
        ):
            if width == group.channels:
                continue
            removed = worth.argsort(stable=True)[: group.channels - width].tolist()
            handler = library[0].dep.handler.__name__
            pruner = graph.get_pruner_of_module(modules[group.root])
            graph.get_pruning_group(modules[group.root], getattr(pruner, handler), removed).prune()
        try:
            with torch.no_grad():
                model(self.example)
        except RuntimeError as error:
            raise UserError(_cannot(model, error)) from error
        return model


def _narrowed(shape: LayerShape, fewer_inputs: int, fewer_outputs: int) -> LayerShape:
    from dataclasses import replace

    inputs, outputs = shape.in_channels - fewer_inputs, shape.out_channels - fewer_outputs
    groups = shape.groups
    if groups > 1 and groups == shape.in_channels:  # depthwise: what it makes is what it reads
        inputs = groups = outputs * shape.in_channels // shape.out_channels
    return replace(shape, in_channels=inputs, out_channels=outputs, groups=groups)


def layer_shapes(model: nn.Module, example: Tensor) -> dict[str, LayerShape]:
    """Every convolution and linear layer, in the order of execution, as the runtime will see it."""
    shapes: dict[str, LayerShape] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if isinstance(module, nn.Linear):
            shapes[name] = LayerShape(module.in_features, module.out_features)
        elif isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
            shapes[name] = LayerShape(
                module.in_channels,
                module.out_channels,
                _pair(module.kernel_size),
                _pair(module.stride),
                _pair(module.padding),
                _pair(module.dilation),
                module.groups,
                _pair(x.shape[2:]),
            )

    hooks = [
        module.register_forward_pre_hook(lambda m, x, name=name: record(name, m, x))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return shapes


def _pair(values: Iterable[int]) -> tuple[int, int]:
    first, second = (int(value) for value in values)
    return first, second


def _dependencies(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # the tracer follows gradients
    try:
        return tp.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
    except Exception as error:
        raise UserError(_cannot(model, error)) from error


def _cannot(model: nn.Module, error: Exception) -> str:
    return (
        f"{type(model).__name__} cannot be pruned: Torch-Pruning cannot follow it "
        f"({type(error).__name__}: {error}). {ADVICE}"
    )


def _refuse_shuffles(model: nn.Module, example: Tensor) -> None:
    """Channels that change places (view, transpose, view) cannot be followed by Torch-Pruning.

    It takes each reshape for a flattening and divides by zero, or worse, cuts the wrong channels.
    """
    try:
        graph = torch.fx.symbolic_trace(model).graph
    except Exception:  # control flow that depends on data: the dependency graph may still manage
        return
    swaps = ("transpose", "permute", "swapaxes")
    for node in graph.nodes:
        called = getattr(node.target, "__name__", node.target)
        if node.op in ("call_method", "call_function") and called in swaps:
            after = {getattr(user.target, "__name__", user.target) for user in node.users}
            if after & {"contiguous", "view", "reshape", "flatten"}:
                where = next(reversed(node.meta.get("nn_module_stack", {"": None})), "")
                raise UserError(
                    f"{type(model).__name__} cannot be pruned: {called}{f' in {where}' if where else ''}"
                    f" lets channels change places (a channel shuffle), which no dependency graph "
                    f"follows. {ADVICE}"
                )


def matching(patterns: Iterable[str], names: Sequence[str]) -> Iterator[str]:
    """The names that any of the patterns matches.

    Raises:
        UserError: a pattern that matches none; the nearest names are offered.
    """
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            near = get_close_matches(pattern, names, 3, 0.3) or list(names)[:3]
            raise UserError(f"{pattern!r} matches no layer. Did you mean {', '.join(near)}?")
        yield from found


def magnitude(prunable: Prunable) -> list[Tensor]:
    """Squared L2 norm over all weights of a channel, divided by the group's mean."""
    return _of_library(prunable, tp.importance.GroupMagnitudeImportance(p=2, normalizer="mean"))


def bn_scale(prunable: Prunable) -> list[Tensor]:
    """The batch norm's scale (Liu et al. 2017, arXiv:1708.06519), divided by the group's mean.

    Raises:
        UserError: a group without a batch norm.
    """
    return _of_library(
        prunable, tp.importance.BNScaleImportance(normalizer="mean"), "has no batch norm"
    )


def _of_library(
    prunable: Prunable, importance: tp.importance.Importance, none: str = ""
) -> list[Tensor]:
    found = []
    for group, library in zip(prunable.groups, prunable.library_groups, strict=True):
        worth = importance(library)
        if worth is None:
            raise UserError(
                f"The channels of {group.root} cannot be ranked: it {none}. Use importance: "
                "magnitude or taylor."
            )
        found.append(worth.detach().float())
    return found


def taylor(
    prunable: Prunable, batches: Iterable[Tensor], autocast: Callable[[], object]
) -> list[Tensor]:
    """How much the network's answers would change without a channel, to second order.

    The squared derivative of the loss by a gate on the channel (Molchanov et al. 2019,
    arXiv:1906.10771), summed over batches. Labels are drawn from the network's own answers, so
    that this is the Fisher information (Theis et al. 2018, arXiv:1801.05787): it does not vanish
    where the network already fits its labels. Comparable between layers.

    Args:
        batches: pictures, float32 (n, 3, height, width), on the device to compute on.
    """
    model = prunable.model
    sums = [torch.zeros(group.channels) for group in prunable.groups]
    for pictures in batches:
        model.to(pictures.device)
        model.zero_grad(set_to_none=True)
        with autocast():  # type: ignore[attr-defined]
            outputs = model(pictures)
        outputs = outputs.float()
        drawn = torch.multinomial(outputs.detach().softmax(1), 1).squeeze(1)
        F.cross_entropy(outputs, drawn, reduction="sum").backward()
        for total, library in zip(sums, prunable.library_groups, strict=True):
            total += _gate_gradient(prunable.graph, library).cpu().float() ** 2
    model.zero_grad(set_to_none=True)
    model.cpu()
    return sums


def _gate_gradient(graph: tp.DependencyGraph, group: tp.Group) -> Tensor:
    """Derivative of the loss by a factor on each channel: the sum of weight times gradient.

    Behind a batch norm the gate acts on its scale and shift; elsewhere on what makes the channel.
    """
    norms, makers = [], []
    for dep, idxs in group:
        module = dep.target.module
        if isinstance(module, BatchNorm):
            norms.append((module, idxs))
        elif isinstance(module, nn.Conv2d | nn.Linear) and graph.is_out_channel_pruning_fn(
            dep.handler
        ):
            makers.append((module, idxs))
    total: Tensor | float = 0.0
    channels = len(group[0].idxs)
    for module, idxs in norms or makers:
        per_output = sum(
            (p.detach() * p.grad).flatten(1).sum(1) if p.ndim > 1 else p.detach() * p.grad
            for p in module.parameters(recurse=False)
            if p.grad is not None
        )
        if isinstance(per_output, Tensor):
            total = total + per_output[torch.as_tensor(list(idxs))].view(channels, -1).sum(1)
    assert isinstance(total, Tensor)
    return total
