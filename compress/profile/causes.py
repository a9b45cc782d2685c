"""Words for the parts of a difference: what each is, and what to change."""

from collections.abc import Sequence

import numpy as np

from compress.measure.layer_profile import Layer
from compress.profile.audit import INT8_FLAGS
from compress.profile.comparison import Cause
from compress.profile.records import Profile
from compress.profile.tallies import Key, Tally, half, interval
from compress.results.schema import BF16_FLAGS
from compress.runtimes.nodes import LINEAR
from compress.utils.units import significant

LOW = ("int8", "bfloat16", "float16", "binary")  # precisions that are to make layers faster
FLAGS = {"int8": INT8_FLAGS, "bfloat16": BF16_FLAGS}
FAMILIES = {"depthwise": "depthwise convolutions", "grouped": "grouped convolutions",
            LINEAR: "linear layers"}  # fmt: skip
TO_DO = {
    "threads": "give both files as many threads: --threads here, intra_op_num_threads in "
    "onnxruntime, INFERENCE_NUM_THREADS in OpenVINO.",
    "conversion": "convert less often: keep what lies between two layers of one precision in that "
    "precision too, or leave a layer in float whose neighbours are.",
    "layout": "keep one layout: export channels first, without Transpose between the layers, or "
    "try the other runtime.",
    "copy": "the file itself asks for them: export it without those that the answer does not need.",
    "work": "less work: prune or distil the one that multiplies more.",
    "rate": "fill the kernels: channels in multiples of 16 (prune rounds to them), fewer and wider "
    "layers.",
    "kernel": "bring the layer into the form that the faster kernel takes: channels in multiples "
    "of 16, no dynamic shapes; or try the other runtime.",
    "only": "a network without them.",
    "other": "let the runtime fuse it into the layer before: a plain ReLU or Clip directly behind "
    "a convolution is free, and batch norms are folded when exporting.",
    "between": "fewer kernels, or several images a call.",
}


def causes(tallies: Sequence[Tally], a: Profile, b: Profile, whole_s: np.ndarray) -> list[Cause]:
    """Word all parts of a difference, the largest first, and last what is within the noise.

    Args:
        whole_s: the difference B less A, a round each.
    """
    whole = interval(whole_s)
    known = not whole.low <= 0 <= whole.high
    found = []
    for tally in tallies:
        part = interval(tally.difference_s)
        found.append(
            Cause(
                kind=tally.key.kind,
                operation=tally.key.operation,
                where=where(tally, a, b),
                difference_s=part,
                share=part.value / whole.value if known else None,
                change=change(tally, a, b),
            )
        )
    return sorted(found, key=lambda cause: (not cause.certain, -abs(cause.difference_s.value)))


def where(tally: Tally, a: Profile, b: Profile) -> str:
    """Say what a part is, the slower side first."""
    key, its_a, its_b = tally.key, half(tally.a), half(tally.b)
    b_is_slower = float(tally.difference_s.mean()) > 0
    layers = FAMILIES.get(key.operation, f"{key.operation} layers")
    sides = (("B", key.b), ("A", key.a)) if b_is_slower else (("A", key.a), ("B", key.b))
    (slow, of_slow), (fast, of_fast) = sides
    times = _times(tally, b_is_slower)
    counts = _counts(tally, a, b, slow)
    match key.kind:
        case "threads":
            return f"the number of threads: {counts}"
        case "precision":
            return f"{layers}, which take {times} in {of_slow} ({slow}) as in {of_fast} ({fast})"
        case "kernel":
            return f"{layers}, which take {times} in {slow} ({of_slow}) as in {fast} ({of_fast})"
        case "rate":
            return f"{layers}, which take {times} for the same work in {slow} as in {fast}"
        case "work":
            ratio = (
                _ratio(its_b.macs, its_a.macs) if b_is_slower else _ratio(its_a.macs, its_b.macs)
            )
            return f"{layers}, which multiply {ratio} times as much in {slow}"
        case "only" if tally.a and tally.b:
            return f"{layers} that have no partner: {counts}"
        case "only":
            return f"{layers} that only {'B' if tally.b else 'A'} has ({len(tally.a or tally.b)})"
        case "conversion":
            return f"conversions between precisions{_names(tally)}: {counts}"
        case "layout":
            return f"changes of layout{_names(tally)}: {counts}"
        case "copy":
            return f"copies{_names(tally)}: {counts}"
        case "other":
            return f"{key.operation} kernels: {counts}"
        case "between":
            return f"what lies between the kernels: {counts}"


def _ratio(many: float | None, few: float | None) -> str:
    return significant(many / few) if many and few else "several"


def _times(tally: Tally, b_is_slower: bool) -> str:
    """Say how many times as long the slower side takes, for as much work."""
    a, b = half(tally.a), half(tally.b)
    slow, fast = (b, a) if b_is_slower else (a, b)
    ratio = slow.seconds / fast.seconds if fast.seconds else 0.0
    if slow.macs and fast.macs:
        ratio *= fast.macs / slow.macs
    return f"{significant(ratio)} times as long" if ratio > 1 else "as long"


def _names(tally: Tally) -> str:
    """Name the operations, unless they are what the runtime put in between."""
    names = dict.fromkeys(x.kernel.split(" ")[0] or x.operation for x in (*tally.b, *tally.a))
    return f" ({', '.join(list(names)[:3])})" if names else ""


def _counts(tally: Tally, a: Profile, b: Profile, first: str) -> str:
    """Count threads or kernels in both files."""
    numbers = {"A": len(tally.a), "B": len(tally.b)}
    if tally.key.kind == "threads":
        numbers = {"A": a.threads, "B": b.threads}
    elif tally.key.kind == "between":
        numbers = {"A": len(a.layers), "B": len(b.layers)}
    said = [f"{numbers[side]} in {side}" for side in ("AB" if first == "A" else "BA")]
    return ", ".join(said)


def change(tally: Tally, a: Profile, b: Profile) -> str | None:
    """Say what to change."""
    key = tally.key
    if key.kind == "precision":
        return _of_precision(key, a)
    if key.kind in ("kernel", "rate") and a.runtime != b.runtime:
        return f"deploy it in what is faster at it: A ran in {a.runtime}, B in {b.runtime}."
    if key.kind == "only" and tally.a and tally.b:
        return "a network with fewer or smaller ones."
    return TO_DO.get(key.kind)


def _of_precision(key: Key, a: Profile) -> str | None:
    low = next((x for x in (key.b, key.a) if x in LOW), None)
    if low is None:
        return None
    lacks = missing(low, a)
    stay = f"leave these layers in float32 where {low} is slower here"
    if low == "int8":
        stay += " (the step quantize does; float_layers names more)"
    return f"{stay}, or try the other runtime{f'; {lacks}' if lacks else ''}."


def missing(precision: str, profile: Profile) -> str | None:
    """Say which instructions the CPU lacks for a precision; None: it has some, or needs none."""
    flags = FLAGS.get(precision)
    if flags is None or any(flag in profile.machine.cpu_flags for flag in flags):
        return None
    return f"this CPU has none of the instructions for {precision} ({', '.join(flags)})"


def in_low_precision(layers: Sequence[Layer]) -> str | None:
    """Return the precision, lower than float32, that most of the computing layers are in."""
    seconds: dict[str, float] = {}
    for layer in layers:
        if layer.macs != 0 and layer.precision in LOW:
            seconds[layer.precision] = seconds.get(layer.precision, 0.0) + layer.seconds
    return max(seconds, key=lambda x: seconds[x], default=None)
