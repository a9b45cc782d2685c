"""Which widths keep the most importance for what they cost. Pure arithmetic, no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

Cost = Callable[[Sequence[int]], float]  # widths of all groups -> seconds, or MACs


@dataclass(frozen=True)
class WidthOptions:
    """The widths that one group may have, and the importance that each keeps."""

    widths: tuple[int, ...]  # ascending; the last is the full width
    kept: tuple[float, ...]

    @classmethod
    def of(cls, importance: np.ndarray, round_to: int, blocks: int = 1) -> "WidthOptions":
        """Multiples of `round_to` up to the full width, and the full width itself.

        Args:
            importance: (channels,), not negative.
            blocks: consecutive ones of which each keeps equally many channels.
        """
        channels, step = len(importance), lcm(round_to, blocks)
        widths = [*range(step, channels, step), channels]
        by_rank = np.sort(importance.reshape(blocks, -1), axis=1)[:, ::-1].sum(0)
        best_first = np.concatenate([[0.0], by_rank.cumsum()])
        return cls(tuple(widths), tuple(float(best_first[w // blocks]) for w in widths))


def allocate(choices: Sequence[WidthOptions], cost: Cost, target: float) -> list[int]:
    """Widths that cost at most `target`, giving up the least importance for each unit of cost.

    Greedy, from the full widths downwards: of all groups and all narrower widths, the step that
    loses the least importance for the cost it saves is taken. Steps over several widths at once
    are considered, since measured times fall in stairs. Where no step of one group saves anything,
    all groups get their narrowest width.

    Raises:
        ValueError: the narrowest widths cost more, and so do the full ones.
    """
    at = [len(c.widths) - 1 for c in choices]

    def widths() -> list[int]:
        return [c.widths[i] for c, i in zip(choices, at, strict=True)]

    now = cost(widths())
    if now > target and cost([c.widths[0] for c in choices]) > target:
        raise ValueError("out of reach")
    while now > target:
        best: tuple[float, float, int, int] | None = None
        for group, choice in enumerate(choices):
            here = at[group]
            for narrower in range(here):
                at[group] = narrower
                saved = now - cost(widths())
                at[group] = here
                if saved <= 0:
                    continue
                # Saving more than is left to save is worth no more than reaching the target.
                lost = choice.kept[here] - choice.kept[narrower]
                rate = lost / min(saved, now - target)
                if best is None or (rate, -saved) < best[:2]:
                    best = (rate, -saved, group, narrower)
        if best is None:  # no group alone saves anything: times are not monotone here
            return [c.widths[0] for c in choices]  # known to cost little enough
        at[best[2]] = best[3]
        now = cost(widths())
    return widths()


def uniform(choices: Sequence[WidthOptions], cost: Cost, target: float) -> list[int]:
    """The same fraction of every group, as large as costs at most `target`.

    Raises:
        ValueError: the narrowest widths cost more.
    """
    fractions = sorted({w / c.widths[-1] for c in choices for w in c.widths}, reverse=True)
    for fraction in fractions:
        widths = [nearest(c, fraction) for c in choices]
        if cost(widths) <= target:
            return widths
    raise ValueError("out of reach")


def nearest(choice: WidthOptions, fraction: float) -> int:
    """The allowed width nearest to this fraction of the full one."""
    return min(choice.widths, key=lambda w: (abs(w - fraction * choice.widths[-1]), w))
