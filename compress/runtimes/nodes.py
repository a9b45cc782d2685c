"""What a file asks to be computed, whatever its format is."""

from dataclasses import dataclass
from typing import Any

LINEAR = "linear"


@dataclass(frozen=True)
class Node:
    """An operation of the file."""

    name: str
    operation: str  # of a convolution its kernel, e.g. "conv 3×3"
    module: str | None  # dotted name of the module that it came from
    macs: int | None  # multiply-accumulates of one call; None: cannot be counted
    weight_bytes: int
    inputs: tuple[str, ...]  # tensors, weights not among them
    outputs: tuple[str, ...]

    @property
    def computes(self) -> bool:
        """Whether it multiplies and accumulates, as far as is known."""
        return self.macs != 0


def convolution(kernel: Any, groups: int) -> str:
    """How a convolution is called: "conv 3×3", "depthwise 3×3"."""
    size = "×".join(map(str, kernel)) or "?"
    return f"conv {size}" if groups == 1 else f"{'depthwise' if groups > 8 else 'grouped'} {size}"
