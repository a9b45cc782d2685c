"""The most that this machine does, measured, and how near a layer comes to it: the roofline.

Samuel Williams, Andrew Waterman, David Patterson, "Roofline: an insightful visual performance
model for multicore architectures", CACM 2009: a layer that computes C and moves M takes at least
max(C / compute, M / bandwidth). Which of the two is larger bounds it.
"""

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np

from compress.measure.layer_profile import Layer
from compress.measure.layer_times import LayerShape, measure_chain
from compress.profile.records import Limits, Profile, Rate, Reach
from compress.utils.alone import TIMING, alone_on_machine

REPEATS = 5
LEAST_S = 0.05  # of one repeat
LEAST_BYTES = 2_000_000  # smaller sets are gone before a thread has started
MOST_BYTES = 256_000_000


def reach(layer: Layer, limits: Limits) -> Reach | None:
    """Tell what bounds the layer and the share of that limit; None where its work is not known."""
    if layer.macs is None or layer.seconds <= 0:
        return None
    memory_s = layer.bytes / limits.bytes_per_s.value
    compute_s = 0.0
    if layer.macs:
        if layer.precision not in limits.macs_per_s:
            return None
        compute_s = layer.macs / limits.macs_per_s[layer.precision].value
    bound, least_s = ("compute", compute_s) if compute_s >= memory_s else ("memory", memory_s)
    return Reach.model_validate({"bound": bound, "share": least_s / layer.seconds})


@alone_on_machine(TIMING)
def measure_limits(precisions: Collection[str], threads: int, working_set_bytes: int) -> Limits:
    """Measure the highest rates of any runtime that is installed here.

    Args:
        precisions: of compress/profile; those that nothing here computes in are left out.
        working_set_bytes: what a call of the network goes through, weights and the largest maps:
            what fits into a cache comes from there at every call.
    """
    rates = {precision: _compute(precision, threads) for precision in precisions}
    return Limits(
        macs_per_s={precision: rate for precision, rate in rates.items() if rate is not None},
        bytes_per_s=_memory(threads, working_set_bytes),
    )


def _compute(precision: str, threads: int) -> Rate | None:
    """Measure the rate of a large 3 × 3 convolution."""
    found = []
    if precision in ("float32", "int8"):
        rate = max(
            shape.macs / measure_chain((shape,), threads, int8=precision == "int8")
            for shape in _large()
        )
        found.append(Rate(value=rate, reached_by="a 3×3 convolution in onnxruntime"))
    if (rate_there := _in_openvino(precision, threads)) is not None:
        found.append(Rate(value=rate_there, reached_by="a 3×3 convolution in OpenVINO"))
    return max(found, key=lambda rate: rate.value, default=None)


def _large() -> list[LayerShape]:
    return [
        LayerShape(channels, channels, (3, 3), padding=(1, 1), input_size=(size, size))
        for channels, size in ((256, 28), (256, 14), (512, 28), (512, 14))
    ]


def _in_openvino(precision: str, threads: int) -> float | None:
    from compress.utils.errors import UserError

    try:
        from compress.methods.binarize.layer_timing import KINDS, limits
    except (ImportError, UserError):  # OpenVINO is not installed
        return None
    kind = next((kind for kind in KINDS if kind == precision), None)
    if kind is None:
        return None
    try:
        return limits(threads, (kind,))[kind]
    except RuntimeError:  # it does not compute so on this CPU
        return None


def _memory(threads: int, working_set_bytes: int) -> Rate:
    """Measure copying, and reading alone, of arrays that take so much together."""
    size = min(MOST_BYTES, max(LEAST_BYTES, working_set_bytes))
    found = []
    for name, work in (("copying", _copy), ("reading", _read)):
        seconds = min(_pass_s(work, threads, size) for _ in range(REPEATS))
        rate = size / seconds
        found.append(Rate(value=rate, reached_by=f"{name} {size / 1e6:.0f} MB again and again"))
    return max(found, key=lambda rate: rate.value)


Work = Callable[[np.ndarray, np.ndarray], object]


def _copy(a: np.ndarray, b: np.ndarray) -> None:
    np.copyto(b, a)


def _read(a: np.ndarray, b: np.ndarray) -> None:
    a.max()
    b.max()


def _pass_s(work: Work, threads: int, size: int) -> float:
    """Return seconds for going once through arrays of `size` bytes, shared among the threads."""
    count = size // (2 * 4 * threads)
    together = Barrier(threads)

    def passes(times: int) -> tuple[float, float]:
        a, b = np.ones(count, np.float32), np.ones(count, np.float32)
        work(a, b)
        together.wait()
        started = time.perf_counter()
        for _ in range(times):
            work(a, b)  # NumPy lets other threads run meanwhile
        return started, time.perf_counter()

    def seconds(times: int) -> float:
        spans = list(pool.map(passes, [times] * threads))
        return (max(end for _, end in spans) - min(start for start, _ in spans)) / times

    with ThreadPoolExecutor(threads) as pool:
        return seconds(max(1, round(LEAST_S / seconds(1))))


def as_json(profile: Profile) -> dict[str, Any]:
    """Return everything, with each layer's block, rate and share of the limit."""
    record = profile.model_dump()
    record["between_s"] = profile.between_s
    for layer, entry in zip(profile.layers, record["layers"], strict=True):
        found = reach(layer, profile.limits) if profile.limits else None
        # A kernel of less than the profile's microsecond takes none.
        entry["macs_per_s"] = layer.macs / layer.seconds if layer.macs and layer.seconds else None
        entry["bound"] = found and found.bound
        entry["limit_share"] = found and found.share
    return record
