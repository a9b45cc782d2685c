"""A torchvision detector in torch eager: is it the backbone or the region part?

Modules are timed by forward hooks, which nest as the calls do. Non-maximum suppression is a
function, no module: its share comes from torch's profiler, whose own cost stays outside of it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from compress.profile.records import BETWEEN, Part

DEPTH = 3  # of the modules that are timed: backbone.body.layer1
CALLS, LEAST_S = 8, 4.0
PROFILED = 2
NMS = "non-maximum suppression"
_NMS_OPERATION = "torchvision::nms"
_MARK = "compress: "

Path = tuple[str, ...]  # a module and those that called it, by name, outermost first


def is_detector(model: nn.Module) -> bool:
    """Whether it is one of torchvision's detectors: pictures in, boxes out."""
    return isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform)


@torch.inference_mode()
def time_detector(model: nn.Module, pictures: Tensor, threads: int) -> tuple[float, Part]:
    """Seconds of a call without hooks, and the parts of a call with them.

    Means over the fastest quarter of the calls, which others disturbed least.

    Args:
        pictures: float32 (n, 3, height, width) in [0, 1].
    """
    model.eval()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model(pictures)
        whole: list[float] = []
        calls: list[dict[Path, float]] = []
        ends = time.perf_counter() + LEAST_S
        while len(calls) < CALLS or time.perf_counter() < ends:
            whole.append(_seconds(lambda: model(pictures)))
            calls.append(_modules_s(model, pictures))
        fastest = sorted(calls, key=lambda call: call[()])[: -(-len(calls) // 4)]
        seconds = {
            path: float(np.mean([call.get(path, 0.0) for call in fastest]))
            for path in dict.fromkeys(path for call in fastest for path in call)
        }
        seconds |= _nms_s(model, pictures)
        whole_s = float(np.mean(sorted(whole)[: -(-len(whole) // 4)]))
        return whole_s, _part((), seconds, _macs(model, pictures), type(model).__name__)
    finally:
        torch.set_num_threads(before)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _modules_s(model: nn.Module, pictures: Tensor) -> dict[Path, float]:
    """Seconds of each module in one call; () is the whole call."""
    seconds: dict[Path, float] = {}
    started: list[float] = []

    def enter(_: Path) -> None:
        started.append(time.perf_counter())

    def leave(path: Path) -> None:
        seconds[path] = seconds.get(path, 0.0) + time.perf_counter() - started.pop()

    with _hooks(model, enter, leave):
        total = _seconds(lambda: model(pictures))
    return {(): total, **seconds}


def _nms_s(model: nn.Module, pictures: Tensor) -> dict[Path, float]:
    """Seconds of non-maximum suppression, below the modules that call it."""
    open_: list[record_function] = []

    def enter(path: Path) -> None:
        open_.append(record_function(_MARK + "/".join(path)))
        open_[-1].__enter__()

    def leave(_: Path) -> None:
        open_.pop().__exit__(None, None, None)

    seconds: dict[Path, float] = {}
    with _hooks(model, enter, leave), profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(PROFILED):
            model(pictures)
    for event in found.events() or []:
        if event.name == _NMS_OPERATION:
            caller = event.cpu_parent
            while caller is not None and not caller.name.startswith(_MARK):
                caller = caller.cpu_parent
            named = caller.name.removeprefix(_MARK).split("/") if caller else []
            path = (*named, NMS)
            seconds[path] = seconds.get(path, 0.0) + 1e-6 * event.cpu_time_total / PROFILED
    return seconds


@contextmanager
def _hooks(
    model: nn.Module, enter: Callable[[Path], None], leave: Callable[[Path], None]
) -> Iterator[None]:
    """Tells of every call of a module down to DEPTH."""
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


def _macs(model: nn.Module, pictures: Tensor) -> dict[str, int]:
    """Multiply-accumulates by module."""
    with FlopCounterMode(display=False) as counter:
        model(pictures)
    root = f"{type(model).__name__}."
    return {
        name.removeprefix(root): sum(counts.values()) // 2
        for name, counts in counter.get_flop_counts().items()
        if name.startswith(root)
    }


def _part(path: Path, seconds: dict[Path, float], macs: dict[str, int], title: str) -> Part:
    below = [p for p in seconds if len(p) == len(path) + 1 and p[: len(path)] == path]
    parts = [_part(p, seconds, macs, p[-1]) for p in below]
    rest = seconds[path] - sum(part.seconds for part in parts)
    if parts and rest > 0:
        name = BETWEEN if not path else f"rest of {title}"
        parts.append(Part(name=name, seconds=rest, kind=BETWEEN))
    return Part(
        name=title,
        seconds=max(seconds[path], sum(part.seconds for part in parts)),
        kind="" if parts else path[-1].rpartition(".")[2] if path else "",
        macs=macs.get(path[-1]) if path else sum(macs.get(p[-1], 0) for p in below),
        parts=tuple(parts),
    )


def largest_first(parts: Sequence[Part]) -> list[Part]:
    """By time."""
    return sorted(parts, key=lambda part: -part.seconds)
