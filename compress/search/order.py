"""In which order candidates are tried: that of an experienced engineer, minutes before hours."""

from collections.abc import Sequence
from typing import Any

from compress.methods import discover
from compress.recipe.schema import GridPoint, Recipe, chosen
from compress.search.schedule import trains

# What a chain's heaviest step is: libraries, then parameters, then other networks.
RANKS = {"update_bn": 0, "quantize": 0, "factorize": 1, "prune": 2, "binarize": 4}
OTHERS, STUDENT = 2, 3  # what keeps the teacher's weights, and a network of its own


def in_order(recipe: Recipe) -> dict[str, GridPoint]:
    """Return the candidates' points, those first that an experienced engineer would try first.

    What needs no training comes before what does; of these int8, low rank, pruning, students and
    binary layers, by the heaviest step; otherwise the recipe's order counts.
    """

    def rank(candidate: str) -> tuple[bool, int]:
        chain = recipe.candidates[candidate]
        return trains(chain), _heaviest(chain)

    return {each: recipe.point(each) for each in sorted(recipe.candidates, key=rank)}


def _heaviest(chain: Sequence[Any]) -> int:
    return max(_rank(kind, settings) for kind, settings in map(chosen, chain))


def _rank(kind: str, settings: Any) -> int:
    if discover()[kind].student(settings) is not None:
        return max(STUDENT, RANKS.get(kind, STUDENT))
    if kind == "distill":  # the recovery of what the other steps did
        return 0
    return RANKS.get(kind, OTHERS)
