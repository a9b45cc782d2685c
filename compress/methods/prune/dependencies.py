"""The dependencies between layers as Torch-Pruning finds them, and what it cannot follow.

Fang et al. 2023, arXiv:2301.12900.
"""

import copy
import linecache
from math import inf
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch_pruning.dependency.index_mapping import update_index_mapping

from compress.runtimes.outputs import in_order


class Unfollowable(Exception):
    """An operation that Torch-Pruning would take for an element-wise one."""


def dependencies(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    """Return what Torch-Pruning finds out about a network that is shown an image.

    Raises:
        Exception: whatever the library ends with where it does not follow.
    """

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


def refuse_too_wide(graph: tp.DependencyGraph, widest: float) -> None:
    """Refuse a graph that joins more channels than any concatenation has: it has no end.

    Torch-Pruning miscounts slices behind each other of which some are added to, and follows the
    channels that are not there for ever.

    Args:
        widest: channels of the widest concatenation that the network really makes.

    Raises:
        Unfollowable: it does.
    """
    update_index_mapping(graph)
    for node in graph.module2node.values():
        offsets = getattr(node.module, "offsets", None) or [0]
        if node.type == tp.ops.OPTYPE.CONCAT and offsets[-1] > widest:
            raise Unfollowable(
                f"it takes a concatenation of slices to have {offsets[-1]} channels, "
                f"and the widest has {widest:g}"
            )


def _gives_more_in_training(model: nn.Module, example: Tensor) -> bool:
    """Return whether the network has outputs in training that it has not otherwise."""
    images, trial = example.repeat(2, 1, 1, 1), copy.deepcopy(model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return len(in_order(trial.train()(images))) > len(in_order(trial.eval()(images)))


class ChannelsStay(TorchFunctionMode):
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
            raise Unfollowable(f"{moved} lets channels change places")
        if order is not None and name in self.RESHAPES:
            raise Unfollowable(
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


def cannot(model: nn.Module, error: Exception) -> str:
    """Return the sentence that tells why a network cannot be pruned, and where that shows."""
    recurrent = [n for n, m in model.named_modules() if isinstance(m, nn.RNNBase)]
    if recurrent:
        reason = f"its recurrent layer {recurrent[0]!r}"
    elif isinstance(error, Unfollowable):
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
