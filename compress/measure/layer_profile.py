"""Which kernel computes which of the file's nodes, and so what each kernel's work is.

Runtimes fuse, reorder and rename: a convolution, the sum behind it and its ReLU are one kernel.
Kernels are named after a node or a tensor of the file; from there, whatever leads to it and no
other kernel is named after belongs to it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from scipy.optimize import brentq

from compress.measure.file_nodes import read_network
from compress.measure.kernels import Timing, time_kernels
from compress.runtimes.base import Kernel
from compress.runtimes.nodes import Node
from compress.utils.record import Record

# What runtimes add to the names that they take over.
_ADDED = re.compile(r"^fused |(_token_\d+|_nchwc|/\w*Fusion/?|_out\d|/WithoutBiases)+$")
# What becomes part of the operation that reads it.
_ABSORBED = ("DequantizeLinear", "QuantizeLinear", "Pad", "Identity", "Cast")
LAYOUT = "change of layout"
_LAYOUT = ("ReorderInput", "ReorderOutput", "Reorder", "Transpose")
CLOCK_S = 5e-6  # that reading a clock twice may cost


class Layer(Record):
    """One kernel of the runtime with the operations of the file that it computes."""

    name: str
    block: str
    operation: str
    precision: str
    output_shape: tuple[int, ...]
    seconds: float
    macs: int | None  # multiply-accumulates; None: cannot be counted
    weight_bytes: int
    activation_bytes: int  # read and written
    network: str = ""  # of a pipeline the stage
    kernel: str = ""  # as the runtime calls it

    @property
    def bytes(self) -> int:
        """Return the bytes that it must move at least."""
        return self.weight_bytes + self.activation_bytes


def time_layers(path: Path, runtime: str, threads: int, batch: int) -> tuple[list[Layer], Timing]:
    """Time the layers of a deployed file, and the whole; as `time_kernels`."""
    nodes = read_network(path, batch)
    timing = time_kernels(path, runtime, threads, batch)
    return layers_of(nodes, timing), timing


def layers_of(nodes: Sequence[Node], timing: Timing) -> list[Layer]:
    """Return the kernels that ran with the work of the nodes that they compute.

    The kernels' times are freed from what measuring them cost: together with what is between them
    they must add up to the time without the profile.
    """
    return list(filter(ran, layer_of_each(nodes, timing.kernels, kernels_s(timing))))


def ran(layer: Layer) -> bool:
    """Return whether a kernel did anything: runtimes list some that never run."""
    return bool(layer.seconds or layer.macs != 0)


def kernels_s(timing: Timing) -> list[float]:
    """Return seconds of each kernel, freed from what measuring them cost."""
    seconds = [kernel.seconds for kernel in timing.kernels]
    return without_profile(seconds, timing.profiled_s, timing.whole_s)


def layer_of_each(
    nodes: Sequence[Node], kernels: Sequence[Kernel], seconds: Sequence[float]
) -> list[Layer]:
    """Return a layer for each kernel, also for those that never run."""
    owned: dict[int, list[Node]] = {}
    for node, owner in zip(nodes, owners(nodes, kernels), strict=True):
        if owner is not None:
            owned.setdefault(owner, []).append(node)
    return [
        _layer(kernel, owned.get(number, []), time)
        for number, (kernel, time) in enumerate(zip(kernels, seconds, strict=True))
    ]


def without_profile(kernels_s: Sequence[float], profiled_s: float, whole_s: float) -> list[float]:
    """Return kernels' times less their part of what the profile cost.

    The profile reads a clock before and after each kernel and writes its entry afterwards: most of
    its cost lies between the kernels. Only where they alone take longer than the whole does without
    a profile, each gives the same, up to CLOCK_S; if that is not enough it is no clock, but a
    disturbance, and they give in proportion.
    """
    if profiled_s <= whole_s or sum(kernels_s) <= whole_s:
        return list(kernels_s)
    least = [max(0.0, seconds - CLOCK_S) for seconds in kernels_s]
    if sum(least) >= whole_s:
        return [seconds * whole_s / sum(least) for seconds in least]
    off = brentq(lambda x: sum(max(0.0, s - x) for s in kernels_s) - whole_s, 0, CLOCK_S)
    return [max(0.0, seconds - off) for seconds in kernels_s]


def owners(nodes: Sequence[Node], kernels: Sequence[Kernel]) -> list[int | None]:
    """Return for each node the number of its kernel; None: computed when loading."""
    by_name = {node.name: number for number, node in enumerate(nodes)}
    producer = {tensor: number for number, node in enumerate(nodes) for tensor in node.outputs}
    found: list[int | None] = [None] * len(nodes)
    named: list[list[int]] = []
    for number, kernel in enumerate(kernels):
        named.append([])
        for name in kernel.names:
            place = _find(name, by_name, producer)
            if place is not None and found[place] is None:
                found[place] = number
                named[-1].append(place)

    def claim(node: int, kernel: int, absorbing: bool) -> bool:
        """Take what lies between the node and one that computes; behind it what it absorbs."""
        absorbing = absorbing or nodes[node].computes
        computes = False
        for tensor in nodes[node].inputs:
            before = producer.get(tensor)
            if before is None or found[before] is not None:
                continue
            if absorbing:
                wanted = nodes[before].operation in _ABSORBED
            else:
                wanted = nodes[before].computes or claim(before, kernel, absorbing=False)
                computes |= wanted
            if wanted:
                found[before] = kernel
                claim(before, kernel, absorbing)
        return computes

    for owner, its in enumerate(named):
        for first in its:
            claim(first, owner, absorbing=False)
    for number, node in enumerate(nodes):  # what is left was fused to what it reads
        if found[number] is None:
            before = [found[producer[t]] for t in node.inputs if t in producer]
            found[number] = max((b for b in before if b is not None), default=None)
    return found


def _find(name: str, by_name: dict[str, int], producer: dict[str, int]) -> int | None:
    while True:
        for names in (by_name, producer):
            if name in names:
                return names[name]
        shorter = _ADDED.sub("", name)
        if shorter == name:
            return None
        name = shorter


def _layer(kernel: Kernel, nodes: list[Node], seconds: float) -> Layer:
    by_rank = sorted(nodes, key=lambda n: (not n.computes, n.operation in _ABSORBED))
    main = by_rank[0] if by_rank else None
    operation = LAYOUT if kernel.operation in _LAYOUT else kernel.operation
    counts = [node.macs for node in nodes]
    return Layer(
        name=_name([node for node in nodes if node.computes] or by_rank[:1]),
        block="",
        operation=main.operation if main else operation,
        precision=kernel.precision,
        output_shape=kernel.output_shape,
        seconds=seconds,
        macs=None if None in counts else sum(count for count in counts if count is not None),
        weight_bytes=sum(node.weight_bytes for node in nodes),
        activation_bytes=kernel.activation_bytes,
        kernel=f"{kernel.operation} {kernel.implementation}".strip(),
    )


def _name(nodes: Sequence[Node]) -> str:
    """Name the first and the last of several layers in one kernel."""
    names = [node.module or node.name for node in nodes] or [""]
    return names[0] if names[0] == names[-1] else f"{names[0]} to {names[-1]}"
