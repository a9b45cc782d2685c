"""Splits the difference between two files into parts that add up to it, before any is worded.

A layer that both have may differ in work and in how fast that is done. With the rate r of the one
that multiplies more, the work that the other is spared takes (m₁ - m₂) / r; the rest of the
difference is one of speed: of another precision, of another kernel, or of the same kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compress.measure.latency import around_mean
from compress.measure.layer_profile import Layer
from compress.profile.comparison import CauseKind, Half
from compress.profile.matching import Match, kind
from compress.profile.rounds import Rounds
from compress.utils.interval import Interval

SAME_WORK = 0.01  # share by which multiply-accumulates may differ and be the same


@dataclass(frozen=True)
class Key:
    """What is counted together."""

    kind: CauseKind
    operation: str = ""
    a: str = ""  # precision or kernel, where these differ
    b: str = ""


@dataclass
class Tally:
    """What some layers take in both files."""

    key: Key
    difference_s: np.ndarray  # (rounds,) B less A
    a: list[Layer] = field(default_factory=list)
    b: list[Layer] = field(default_factory=list)


def interval(values: np.ndarray) -> Interval:
    """Return the mean over the rounds with Student's t interval."""
    low, high = around_mean(values)
    return Interval(value=float(values.mean()), low=low, high=high)


def family(layer: Layer) -> str:
    """Return what layers are counted together by: depthwise ones whatever their kernel's size."""
    name = layer.operation.split(" ")[0]
    return name if name in ("depthwise", "grouped") else layer.operation


def tallies(a: Rounds, b: Rounds, found: Sequence[Match]) -> list[Tally]:
    """Split the difference B less A; nothing is left over."""
    parts: dict[Key, Tally] = {}

    def add(key: Key, difference_s: np.ndarray, of_a: Sequence[int], of_b: Sequence[int]) -> None:
        tally = parts.setdefault(key, Tally(key, np.zeros_like(a.whole_s)))
        tally.difference_s = tally.difference_s + difference_s
        tally.a += [a.layers[i] for i in of_a]
        tally.b += [b.layers[i] for i in of_b]

    pairs = [x for x in found if kind(a.layers[x.a[0]]) == "compute"]
    for match in pairs:
        for key, difference_s in _of_pair(a, b, match):
            add(key, difference_s, match.a, match.b)
    for side, sign in ((a, -1), (b, 1)):
        paired = {i for match in pairs for i in (match.a if side is a else match.b)}
        for place, layer in enumerate(side.layers):
            if place in paired:
                continue
            what = kind(layer)
            operation = family(layer) if what in ("compute", "other") else ""
            key = Key("only" if what == "compute" else what, operation)
            places = ((place,), ()) if side is a else ((), (place,))
            add(key, sign * side.seconds[:, place], *places)
    add(Key("between"), b.between_s - a.between_s, (), ())
    return list(parts.values())


def _of_pair(a: Rounds, b: Rounds, match: Match) -> list[tuple[Key, np.ndarray]]:
    """Split the difference between layers that do the same into work and speed."""
    a_s, b_s = a.seconds[:, match.a].sum(1), b.seconds[:, match.b].sum(1)
    its_a, its_b = [a.layers[i] for i in match.a], [b.layers[i] for i in match.b]
    operations = dict.fromkeys((family(_main(its_a)), family(_main(its_b))))
    operation = " / ".join(operations)
    work_s = _work_s(a_s, b_s, half(its_a).macs, half(its_b).macs)
    speed = _speed(half(its_a), half(its_b), operation)
    if work_s is None:
        return [(speed, b_s - a_s)]
    return [(Key("work", operation), work_s), (speed, b_s - a_s - work_s)]


def _work_s(
    a_s: np.ndarray, b_s: np.ndarray, a_macs: int | None, b_macs: int | None
) -> np.ndarray | None:
    """Return the seconds of B's additional work; None: it does as much, or nobody knows."""
    if not a_macs or not b_macs or abs(b_macs - a_macs) <= SAME_WORK * max(a_macs, b_macs):
        return None
    most_s, most = (a_s, a_macs) if a_macs > b_macs else (b_s, b_macs)
    return most_s * (b_macs - a_macs) / most


def _speed(a: Half, b: Half, operation: str) -> Key:
    if a.precision != b.precision:
        return Key("precision", operation, a.precision, b.precision)
    if a.kernel != b.kernel:
        return Key("kernel", operation, a.kernel, b.kernel)
    return Key("rate", operation)


def half(layers: Sequence[Layer]) -> Half:
    """Return what layers of one file take together."""
    known = [layer.macs for layer in layers if layer.macs is not None]

    def words(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(value for value in values if value))

    return Half(
        seconds=sum(layer.seconds for layer in layers),
        count=len(layers),
        operation=words([layer.operation for layer in layers]),
        precision=words([layer.precision for layer in layers]),
        kernel=words([layer.kernel for layer in layers]),
        macs=sum(known) if len(known) == len(layers) else None,
    )


def _main(layers: Sequence[Layer]) -> Layer:
    return max(layers, key=lambda layer: layer.seconds)
