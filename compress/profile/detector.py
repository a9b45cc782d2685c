"""A torchvision detector in torch eager: is it the backbone or the region part?

Modules are timed by forward hooks, which nest as the calls do. Non-maximum suppression is an
operation, no module: it is timed where torch dispatches it, in calls of their own, since watching
every operation slows all others down.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from compress.measure.processes import others_cpu_s
from compress.profile.records import BETWEEN, NMS, Part
from compress.utils.alone import TIMING, alone_on_machine

DEPTH = 4  # of the modules that are timed: backbone.fpn.inner_blocks.0
CALLS, LEAST_S = 8, 4.0
WATCHED = 3  # calls for non-maximum suppression

Path = tuple[str, ...]  # a module and those that called it, by name, outermost first


@dataclass(frozen=True)
class Timing:
    """A detector's time and its parts'."""

    whole_s: float  # a call, without hooks
    root: Part  # a call with them
    disturbance_cores: float  # that other processes used meanwhile


@alone_on_machine(TIMING)
@torch.inference_mode()
def time_detector(model: nn.Module, size: int, batch: int, threads: int) -> Timing:
    """Time the detector on noise of size x size pixels, with and without hooks, in turns.

    Means over the fastest quarter of the calls, which others disturbed least.
    """
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((batch, 3, size, size), dtype=np.float32))
    model.eval()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model(images)
        whole: list[float] = []
        calls: list[dict[Path, float]] = []
        started, others = time.perf_counter(), others_cpu_s()
        while len(calls) < CALLS or time.perf_counter() < started + LEAST_S:
            whole.append(_seconds(lambda: model(images)))
            calls.append(_modules_s(model, images))
        others = (others_cpu_s() - others) / (time.perf_counter() - started)
        fastest = sorted(calls, key=lambda call: call[()])[: _quarter(calls)]
        seconds = {
            path: float(np.mean([call.get(path, 0.0) for call in fastest]))
            for path in dict.fromkeys(path for call in fastest for path in call)
        }
        watched = [_nms_s(model, images) for _ in range(WATCHED)]
        seconds |= {path: min(call[path] for call in watched) for path in watched[0]}
        kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        root = _part((), seconds, _macs(model, images), kinds)
        return Timing(float(np.mean(sorted(whole)[: _quarter(whole)])), root, max(0.0, others))
    finally:
        torch.set_num_threads(before)


def _quarter(samples: Sequence[object]) -> int:
    return -(-len(samples) // 4)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _modules_s(model: nn.Module, images: Tensor) -> dict[Path, float]:
    """Return seconds of each module in one call; () is the whole call."""
    seconds: dict[Path, float] = {}
    started: list[float] = []

    def enter(_: Path) -> None:
        started.append(time.perf_counter())

    def leave(path: Path) -> None:
        seconds[path] = seconds.get(path, 0.0) + time.perf_counter() - started.pop()

    with _hooks(model, enter, leave):
        total = _seconds(lambda: model(images))
    return {(): total, **seconds}


def _nms_s(model: nn.Module, images: Tensor) -> dict[Path, float]:
    """Return seconds of non-maximum suppression in one call, below the modules that call it."""
    stack: list[Path] = []
    seconds: dict[Path, float] = {}

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is not torch.ops.torchvision.nms.default:
                return func(*args, **(kwargs or {}))
            started = time.perf_counter()
            kept = func(*args, **(kwargs or {}))
            path = (*(stack[-1] if stack else ()), NMS)
            seconds[path] = seconds.get(path, 0.0) + time.perf_counter() - started
            return kept

    with _hooks(model, stack.append, lambda _: stack.pop()), Watch():  # type: ignore[no-untyped-call]
        model(images)
    return seconds


@contextmanager
def _hooks(
    model: nn.Module, enter: Callable[[Path], object], leave: Callable[[Path], object]
) -> Iterator[None]:
    """Tell of every call of a module down to DEPTH."""
    stack: list[str] = []

    def before(name: str) -> None:
        stack.append(name)
        enter(tuple(stack))

    def after() -> None:
        leave(tuple(stack))
        stack.pop()

    handles = []
    for name, module in model.named_modules():
        if name and name.count(".") < DEPTH:
            handles += [
                module.register_forward_pre_hook(lambda _m, _i, name=name: before(name)),
                module.register_forward_hook(lambda _m, _i, _o: after()),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _macs(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Count multiply-accumulates by module."""
    with FlopCounterMode(display=False) as counter:
        model(images)
    root = f"{type(model).__name__}."
    return {
        name.removeprefix(root): sum(counts.values()) // 2
        for name, counts in counter.get_flop_counts().items()
        if name.startswith(root)
    }


def _part(
    path: Path, seconds: dict[Path, float], macs: dict[str, int], kinds: dict[str, str]
) -> Part:
    below = [p for p in seconds if len(p) == len(path) + 1 and p[: len(path)] == path]
    parts = [_part(p, seconds, macs, kinds) for p in below]
    name = path[-1] if path else ""
    title = name or kinds[name]
    rest = seconds[path] - sum(part.seconds for part in parts)
    if parts and rest > 0:
        called = f"rest of {title}" if path else BETWEEN
        parts.append(Part(name=called, seconds=rest, kind=BETWEEN))
    return Part(
        name=title,
        seconds=max(seconds[path], sum(part.seconds for part in parts)),
        kind="" if parts else kinds.get(name, name),
        macs=macs.get(name) if path else sum(macs.get(p[-1], 0) for p in below),
        parts=tuple(parts),
    )
