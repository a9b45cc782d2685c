"""What a network answers: arrays by name, whatever shape the network itself puts them into."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress.utils.errors import UserError

Outputs = Mapping[str, np.ndarray]  # by name, (n, …) each


def by_name(given: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return a network's answer under the names that its task gives to the outputs.

    Args:
        given: one array or tensor, a tuple of them (named or not), or a mapping.
        names: what is wanted; where the network has no such names, its first outputs in order.

    Raises:
        UserError: fewer outputs than names.
    """
    if hasattr(given, "_asdict"):  # a named tuple
        given = given._asdict()
    if isinstance(given, Mapping) and all(name in given for name in names):
        return {name: given[name] for name in names}
    found = in_order(given)
    if len(found) < len(names):
        raise UserError(
            f"The model gives {len(found)} outputs where {', '.join(names)} are expected."
        )
    return dict(zip(names, found, strict=False))


def in_order(given: Any) -> list[Any]:
    """Return all outputs of a network in its own order, as `by_name` takes them."""
    if isinstance(given, Mapping):
        return list(given.values())
    return list(given) if isinstance(given, list | tuple) else [given]


def joined(parts: Sequence[Outputs]) -> dict[str, np.ndarray]:
    """Return the outputs of several batches as those of one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
