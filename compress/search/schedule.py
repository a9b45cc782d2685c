"""A candidate in rungs: short schedules that are continued, and the same network untrained."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from compress.methods import discover
from compress.recipe.schema import chosen

REDUCTION = 3  # a rung is so many times as long as the one before
RUNGS = 3
COOLDOWN = 3  # one part in so many of a schedule is that in which the rate falls


@dataclass(frozen=True)
class Rung:
    """A candidate's chain with a schedule of so many epochs in all; 0: it does not train."""

    epochs: int
    new_epochs: int  # that the rung before has not trained
    chain: list[Any]


def rungs(chain: Sequence[Any]) -> list[Rung]:
    """Return the chain with 1/9, 1/3 and all of its epochs, each going on from the one before.

    What is trained at a constant rate is shared, and so is computed once; the rate then falls anew
    in each. A chain whose training cannot be continued is one rung.
    """
    steps = [without_control(step) for step in chain]
    kinds = list(map(chosen, steps))
    for at in reversed(range(len(steps))):
        kind, settings = kinds[at]
        if discover()[kind].in_parts(settings, [1]):
            plan, before = _plan(settings.train.epochs), 0
            found = []
            for epochs, parts in plan:
                chain = [*steps[:at], *_trained(steps[at], parts), *steps[at + 1 :]]
                found.append(Rung(epochs, epochs - before, chain))
                before = epochs - parts[-1]
            return found
    trained = [s.train.epochs for _, s in kinds if getattr(s, "train", None) is not None]
    return [Rung(sum(trained), sum(trained), steps)]


def untrained(chain: Sequence[Any]) -> list[Any]:
    """Return a chain that makes a network of the same shape and trains nothing."""
    found = []
    for step in chain:
        kind, settings = chosen(step)
        found.append(step.model_copy(update={kind: discover()[kind].untrained(settings)}))
    return [without_control(step) for step in found]


def trains(chain: Sequence[Any]) -> bool:
    """Return whether any of its steps trains."""
    return rungs(chain)[-1].epochs > 0


def without_control(step: Any) -> Any:
    """Return a step beside which no control is trained."""
    kind, settings = chosen(step)
    if "control" not in type(settings).model_fields:
        return step
    return step.model_copy(update={kind: settings.model_copy(update={"control": False})})


def _trained(step: Any, parts: Sequence[int]) -> list[Any]:
    kind, settings = chosen(step)
    return [
        step.model_copy(update={kind: part}) for part in discover()[kind].in_parts(settings, parts)
    ]


def _plan(total: int) -> list[tuple[int, list[int]]]:
    """Return for each rung its epochs in all, and the parts in which they are trained.

    The last part is that in which the rate falls; those before are the beginning of the next
    rung's, too.
    """
    lengths = sorted({max(1, round(total / REDUCTION**k)) for k in range(RUNGS)})
    cooled = [max(1, round(length / COOLDOWN)) for length in lengths]
    trunks = [length - cool for length, cool in zip(lengths, cooled, strict=True)]
    steps = [end - begin for begin, end in pairwise([0, *trunks])]
    return [
        (length, [*(n for n in steps[: i + 1] if n), cool])
        for i, (length, cool) in enumerate(zip(lengths, cooled, strict=True))
    ]
