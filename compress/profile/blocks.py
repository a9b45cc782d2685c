"""Which block a layer belongs to, so that a network of a hundred layers is a dozen lines.

A block is what the network's author named: `layer3` of a ResNet. Where one name holds most of the
time (`features` of a VGG) its parts are the blocks; where those are many, neighbours that see maps
of one size are one block, named after its first and its last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from compress.measure.layer_profile import Layer
from compress.profile.records import BETWEEN, Part

LARGEST = 0.5  # share of the time that one block may take
MOST = 12  # blocks
LEAST_S = 1e-9  # less is an error of rounding


@dataclass
class _Run:
    """Neighbours in the order of execution."""

    names: list[str]
    layers: list[Layer]
    size: tuple[int, ...]  # height and width of the maps

    @property
    def parent(self) -> str:
        return self.names[0].rpartition(".")[0]

    @property
    def title(self) -> str:
        first, last = self.names[0], self.names[-1]
        return first if first == last else f"{first} to {last}"


def in_blocks(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers, each with its block."""
    named = _names(layers)
    depth, deepest = 1, max((name.count(".") + 1 for name in named), default=1)
    while depth < deepest and _largest_share(layers, named, depth) > LARGEST:
        depth += 1
    runs: list[_Run] = []
    pairs = zip(layers, named, strict=True)
    for key, members in groupby(pairs, key=lambda pair: _prefix(pair[1], depth)):
        run = [layer for layer, _ in members]
        before = runs[-1].size if runs else ()
        runs.append(_Run([key], run, _size(run) or before))
    if len(runs) > MOST:
        runs = _merged(runs)
    return [
        layer.model_copy(update={"block": run.title, "name": layer.name or run.names[-1]})
        for run in runs
        for layer in run.layers
    ]


def _names(layers: Sequence[Layer]) -> list[str]:
    """Return layers' names; without one, or a place in the network, that of the one before."""
    dotted = any("." in layer.name for layer in layers)
    known = [x.name if x.macs != 0 or "." in x.name or not dotted else "" for x in layers]
    names, last = [], next((name for name in known if name), "network")
    for name in known:
        last = name or last
        names.append(last)
    return names


def _prefix(name: str, depth: int) -> str:
    return ".".join(name.split(" to ")[0].split(".")[:depth])


def _largest_share(layers: Sequence[Layer], names: Sequence[str], depth: int) -> float:
    seconds: dict[str, float] = {}
    for layer, name in zip(layers, names, strict=True):
        key = _prefix(name, depth)
        seconds[key] = seconds.get(key, 0.0) + layer.seconds
    return max(seconds.values()) / (sum(seconds.values()) or 1.0)


def _size(layers: Sequence[Layer]) -> tuple[int, ...]:
    """Return the size of the maps of the layer with the most work; pooling goes with its input."""
    main = max(layers, key=lambda layer: layer.macs or 0)
    return main.output_shape[2:] if main.macs else ()


def _merged(runs: Sequence[_Run]) -> list[_Run]:
    merged: list[_Run] = []
    for run in runs:
        last = merged[-1] if merged else None
        if last and (last.parent, last.size) == (run.parent, run.size):
            last.names += run.names
            last.layers += run.layers
        else:
            merged.append(run)
    return merged


def tree(model: str, layers: Sequence[Layer], whole_s: float) -> Part:
    """Nest blocks, their parts and layers in the network; what `whole_s` lacks is between them."""
    parts = []
    for block, members in groupby(layers, key=lambda layer: layer.block):
        inside = _parts(list(members), block.split(" to ")[0].count(".") + 1)
        parts.append(Part(name=block, seconds=_seconds(inside), parts=tuple(inside)))
    rest = whole_s - _seconds(parts)
    parts.append(Part(name=BETWEEN, seconds=rest if rest > LEAST_S else 0.0, kind=BETWEEN))
    return Part(name=model, seconds=_seconds(parts), parts=tuple(parts))


def _parts(layers: Sequence[Layer], depth: int) -> list[Part]:
    """Nest layers by the parts of their names, from the `depth`th on."""
    parts: list[Part] = []
    for key, members in groupby(layers, key=lambda layer: _prefix(layer.name, depth)):
        group = list(members)
        # One kernel of several layers is named after two of them, so that no name need be the key.
        if len(group) == 1 or all(_prefix(layer.name, depth + 1) == key for layer in group):
            parts += [Part(name=x.name, seconds=x.seconds, kind=x.operation) for x in group]
            continue
        inside = _parts(group, depth + 1)
        parts.append(Part(name=key, seconds=_seconds(inside), parts=tuple(inside)))
    # A level that splits nothing is left out.
    return list(parts[0].parts) if len(parts) == 1 and parts[0].parts else parts


def _seconds(parts: Sequence[Part]) -> float:
    return sum(part.seconds for part in parts)
