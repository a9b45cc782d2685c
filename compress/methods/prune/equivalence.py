"""Proves that a narrowed network is the full one without the channels that were removed.

In the full network the removed channels are silenced: what makes them and what reads them is set to
zero. Then every layer must make the same of one image in both, to rounding.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.overrides import TorchFunctionMode

from compress.data.input_spec import Shape
from compress.runtimes.outputs import by_name, in_order
from compress.utils.errors import UserError

TOLERANCE = 1e-3  # of the largest number that a layer makes; rounding stays a hundred times below
ANSWER = "the answer"


class Removed(NamedTuple):
    """Channels that go from one side of a module, or from a parameter that is in none."""

    name: str
    is_output: bool
    axis: int  # of a parameter
    places: list[int]


def first_unlike(
    full: nn.Module,
    narrow: nn.Module,
    removed: Iterable[Removed],
    images: Tensor,
    outputs: Mapping[str, Shape],
) -> str | None:
    """Return the first layer that makes something else in the narrow network, if any does.

    Args:
        full: is silenced, so give a copy; in evaluation mode, as `narrow` is.
        images: float32 (n, channels, height, width), any that are not constant.
        outputs: that are the task's, with their shapes for one image; others may get narrower.

    Returns:
        A layer's name, or ANSWER where only what the network gives is not the same.
    """
    made: dict[str, set[int]] = {}  # by layer: which of its channels are gone
    for item in removed:
        _silence(full, item)
        if item.is_output:
            made.setdefault(item.name, set()).update(item.places)
    statistics = _SameStatistics()
    expected = _run(full, images, statistics, outputs)
    statistics.again()
    got = _run(narrow, images, statistics, outputs)
    for (name, wanted), (other, found) in zip(expected, got, strict=False):
        if name != other or not _same(wanted, found, made.get(name, set())):
            return name
    return None if len(expected) == len(got) else ANSWER


def randomly_drawn(model: nn.Module) -> nn.Module:
    """Draw anew, in place, all parameters that are constant, and return the model.

    Fresh networks are full of zeros and ones, behind which a wrong channel could not be told from
    the right one.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() == 1 or parameter.std() == 0:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model


def _silence(model: nn.Module, removed: Removed) -> None:
    """Set to zero the weights of these channels."""
    places = torch.tensor(removed.places, dtype=torch.int64)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        if removed.name in parameters:
            parameters[removed.name].index_fill_(removed.axis, places, 0.0)
            return
        module = model.get_submodule(removed.name)
        for key, parameter in module.named_parameters(recurse=False):
            axis = 0
            if isinstance(module, Convolution | nn.Linear):
                transposed = isinstance(module, Convolution) and module.transposed
                axis = int(removed.is_output == transposed) if parameter.ndim > 1 else 0
                if key == "bias" and not removed.is_output:
                    continue
            if parameter.shape[axis] > max(removed.places, default=0):
                parameter.index_fill_(axis, places, 0.0)


def _run(
    model: nn.Module, images: Tensor, statistics: "_SameStatistics", outputs: Mapping[str, Shape]
) -> list[tuple[str, Tensor]]:
    """Return what each layer made in turn, channels on axis 1, and what the network gave."""
    made: list[tuple[str, Tensor]] = []

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        made.append((name, output.movedim(-1, 1) if isinstance(module, nn.Linear) else output))

    hooks = [
        module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
        for name, module in model.named_modules()
        if isinstance(module, Convolution | nn.Linear)
    ]
    try:
        with torch.no_grad(), statistics:
            given = task_outputs(model(images), outputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [*made, *((ANSWER, x) for x in given)]


def task_outputs(given: Any, outputs: Mapping[str, Shape]) -> list[Tensor]:
    """Return a network's outputs for the task; all of them where their shape is not known yet."""
    try:
        return list(by_name(given, outputs).values())
    except UserError:  # how many classes the data has, say
        return in_order(given)


def _same(expected: Tensor, found: Tensor, gone: set[int]) -> bool:
    if gone:
        stay = [i for i in range(expected.shape[1]) if i not in gone]
        expected = expected[:, stay]
    if expected.shape != found.shape:
        return False
    difference = (expected - found).abs().max()
    return bool(difference <= TOLERANCE * expected.abs().max())  # False where one is NaN


class _SameStatistics(TorchFunctionMode):
    """Lets the narrow network compute with the full one's statistics over all channels.

    What a layer norm or a mean over channels makes of fewer channels is something else, rightly so.
    A group norm multiplies each of its groups by another number, so that a channel that got into
    another group is seen.
    """

    REPLACED = ("layer_norm", "rms_norm", "group_norm", "normalize", "local_response_norm", "mean")

    def __init__(self) -> None:
        super().__init__()
        self.known: list[float] = []
        self.turn: int | None = None

    def again(self) -> None:
        """From now on give what was found out, in the same order."""
        self.turn = 0

    def __torch_function__(
        self,
        func: Any,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        own = getattr(self, f"_{name}") if name in self.REPLACED else func
        return own(*args, **(kwargs or {}))

    def _statistic(self, value: float) -> float:
        if self.turn is None:
            self.known.append(value)
            return value
        self.turn += 1
        return self.known[self.turn - 1]

    def _scaled(self, x: Tensor) -> Tensor:
        return x / self._statistic(float(x.square().mean().sqrt()) or 1.0)

    def _layer_norm(
        self,
        input: Tensor,
        normalized_shape: object,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 0,
        cudnn_enable: bool = True,
    ) -> Tensor:
        return _affine(self._scaled(input), weight, bias)

    def _rms_norm(
        self,
        input: Tensor,
        normalized_shape: object,
        weight: Tensor | None = None,
        eps: float | None = None,
    ) -> Tensor:
        return _affine(self._scaled(input), weight, None)

    def _group_norm(
        self,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 0,
        cudnn_enabled: bool = True,
    ) -> Tensor:
        groups = self._scaled(input).reshape(len(input), num_groups, -1, *input.shape[2:])
        numbers = torch.arange(1.0, num_groups + 1).reshape(-1, *(1,) * (groups.ndim - 2))
        last = (groups * numbers).flatten(1, 2).movedim(1, -1)
        return _affine(last, weight, bias).movedim(-1, 1)

    def _normalize(self, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self._scaled(input)

    def _local_response_norm(self, input: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self._scaled(input)

    def _mean(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        total = torch.sum(input, *args, **kwargs)
        return total / self._statistic(input.numel() / total.numel())


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias
