"""Which layers of one file do the work of which layers of another.

Quantizers and runtimes keep the names of layers, so that names come first. What has no common name
is matched by its order: layers of the same operation and size, then of the same operation.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from compress.measure.layer_profile import LAYOUT, Layer

Kind = Literal["compute", "conversion", "layout", "copy", "other"]

# Operations that work on numbers that they do not change, by what they change instead.
CONVERSIONS = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Convert", "ConvertLike",
    "FakeQuantize",
)  # fmt: skip
LAYOUTS = (LAYOUT, "Transpose", "Reorder")
COPIES = (
    "Concat", "Split", "VariadicSplit", "Slice", "StridedSlice", "Gather", "Identity", "Expand",
    "Tile", "Pad", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Broadcast",
)  # fmt: skip


def kind(layer: Layer) -> Kind:
    """Return what a layer does: computes, or what is done around that."""
    if layer.operation in CONVERSIONS:
        return "conversion"
    if layer.operation in LAYOUTS:
        return "layout"
    if layer.operation in COPIES:
        return "copy"
    return "other" if layer.macs == 0 else "compute"


@dataclass(frozen=True)
class Match:
    """Places of layers that do the same work, in the one file and in the other."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    by_name: bool  # else by order


def matches(a: Sequence[Layer], b: Sequence[Layer]) -> list[Match]:
    """Return what has a partner, in the order of A; conversions, layouts and copies have none."""
    found = _by_name(a, b)
    for sign in (_shaped, _operation):
        free_a = _free(a, [match.a for match in found])
        free_b = _free(b, [match.b for match in found])
        found += _in_order(a, b, free_a, free_b, sign)
    return sorted(found, key=lambda match: match.a)


def _free(layers: Sequence[Layer], taken: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the places of layers that compute and have no partner yet."""
    gone = {place for places in taken for place in places}
    return [i for i, x in enumerate(layers) if i not in gone and kind(x) == "compute"]


def _names(layer: Layer) -> set[tuple[str, str]]:
    """Return what a layer goes by: one kernel of two layers goes by both their names."""
    what = kind(layer)
    if what not in ("compute", "other"):
        return set()
    names = {name for name in layer.name.split(" to ") if name}
    return {(name, layer.operation if what == "other" else what) for name in names}


@dataclass(frozen=True)
class _Group:
    names: set[tuple[str, str]]
    a: tuple[int, ...]
    b: tuple[int, ...]


def _by_name(a: Sequence[Layer], b: Sequence[Layer]) -> list[Match]:
    """Match what shares a name, directly or through others."""
    single = [_Group(_names(layer), (place,), ()) for place, layer in enumerate(a)]
    single += [_Group(_names(layer), (), (place,)) for place, layer in enumerate(b)]
    groups: list[_Group] = []
    for one in single:
        joined, apart = [one], list[_Group]()
        for group in groups:
            (joined if group.names & one.names else apart).append(group)
        names = set[tuple[str, str]]().union(*(group.names for group in joined))
        of_a = tuple(sorted(place for group in joined for place in group.a))
        of_b = tuple(sorted(place for group in joined for place in group.b))
        groups = [*apart, _Group(names, of_a, of_b)]
    return [Match(group.a, group.b, True) for group in groups if group.a and group.b]


def _shaped(layer: Layer) -> Hashable:
    # In int8 channels may come last: the same numbers in another order.
    return layer.operation, tuple(sorted(layer.output_shape)), layer.macs


def _operation(layer: Layer) -> Hashable:
    return layer.operation


def _in_order(
    a: Sequence[Layer],
    b: Sequence[Layer],
    free_a: Sequence[int],
    free_b: Sequence[int],
    sign: Callable[[Layer], Hashable],
) -> list[Match]:
    """Match the longest runs of layers with the same sign."""
    signs = [sign(a[i]) for i in free_a], [sign(b[i]) for i in free_b]
    blocks = SequenceMatcher(None, *signs, autojunk=False).get_matching_blocks()
    return [
        Match((free_a[block.a + i],), (free_b[block.b + i],), False)
        for block in blocks
        for i in range(block.size)
    ]
