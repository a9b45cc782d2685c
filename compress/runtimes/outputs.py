"""What a network answers: arrays by name, whatever shape the network itself puts them into."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from compress.data.input_spec import Shape
from compress.utils.errors import UserError

Outputs = Mapping[str, np.ndarray]  # by name, (n, …) each
USUAL = "logits"  # what most people call a network's answer, whatever its task
_DEEPEST = 4  # lists, mappings and objects within each other that are looked into


def by_name(given: Any, outputs: Mapping[str, Shape], training: bool = False) -> dict[str, Any]:
    """Return a network's answer under the names that its task gives to the outputs.

    Of several arrays that of an output's own name is taken. Where a task's only output has no such
    one, it is the one of its shape; of several of its shape the one that is called logits.

    Args:
        given: an array or tensor, or several of them: a tuple, a mapping, an object that has them
            as attributes, or one of these within another. What is None does not count.
        outputs: what is wanted, each with its shape for one image.
        training: whether the network is in training mode: of several of the shape the first is
            taken then, since heads behind it serve training only (`check_forward` makes sure).

    Raises:
        UserError: fewer arrays than outputs; none of the shape, or more than one that is not
            called logits.
    """
    if len(outputs) == 1 and hasattr(given, "shape"):  # most networks, at every step of training
        return dict.fromkeys(outputs, given)
    parts = parts_of(given)
    if all(name in parts for name in outputs):
        return {name: parts[name] for name in outputs}
    if len(parts) < len(outputs):
        kind = "" if parts else f" ({type(given).__name__})"
        raise UserError(
            f"The model gives {len(parts)} outputs{kind} where {', '.join(outputs)} are expected."
        )
    if len(outputs) > 1:
        return dict(zip(outputs, parts.values(), strict=False))
    ((name, shape),) = outputs.items()
    return {name: parts[_chosen(parts, name, shape, training)]}


def _chosen(parts: Mapping[str, Any], name: str, shape: Shape, training: bool) -> str:
    """Return where among the parts the task's only output is."""
    if len(parts) == 1:
        return next(iter(parts))
    fitting = fitting_parts(parts, shape)
    called = [path for path in fitting if path.rpartition(".")[2] in (name, USUAL)]
    fitting = called or fitting
    if not fitting:
        shown = ", ".join(f"{path} {tuple(part.shape)}" for path, part in parts.items())
        raise UserError(
            f"The model gives {shown}, and none of these is {name} of shape (images, "
            f"{', '.join(map(str, shape))})."
        )
    if len(fitting) > 1 and not training:
        raise UserError(
            f"The model gives {' and '.join(fitting)}, and each could be its {name}: let it "
            f"return one of them, or call that one {name}."
        )
    return fitting[0]


def fitting_parts(parts: Mapping[str, Any], shape: Shape) -> list[str]:
    """Return which parts have this shape for each image."""
    return [
        path
        for path, part in parts.items()
        if len(part.shape) == len(shape) + 1 and tuple(part.shape[1:]) == tuple(shape)
    ]


def parts_of(given: Any) -> dict[str, Any]:
    """Return all arrays of a network's answer in its own order, each by where it is in there.

    That is the key, the attribute or the number: `logits`, `[1]`, `hidden_states[3]`,
    `out.logits`.
    """
    return dict(_parts(given, "", 0))


def in_order(given: Any) -> list[Any]:
    """Return all arrays of a network's answer in its own order."""
    return [part for _, part in _parts(given, "", 0)]


def _parts(given: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if hasattr(given, "shape"):
        yield path or "[0]", given
    elif depth < _DEEPEST:
        for key, value in _entries(given):
            step = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
            yield from _parts(value, f"{path}{step}", depth + 1)


def _entries(given: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what is within something that is no array: by key, attribute or number."""
    if hasattr(given, "_asdict"):  # a named tuple
        given = given._asdict()
    if isinstance(given, Mapping):
        yield from given.items()
    elif isinstance(given, list | tuple):
        yield from enumerate(given)
    elif is_dataclass(given):
        yield from ((field.name, getattr(given, field.name)) for field in fields(given))
    else:
        yield from getattr(given, "__dict__", {}).items()


def joined(parts: Sequence[Outputs]) -> dict[str, np.ndarray]:
    """Return the outputs of several batches as those of one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
