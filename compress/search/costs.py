"""How long a rung will take: some of it for each epoch, some of it once."""

from collections.abc import Sequence
from statistics import fmean, linear_regression

from compress.recipe.schema import Recipe
from compress.results.search import Trial
from compress.search.schedule import rungs


def next_rung_s(recipe: Recipe, candidate: str, trials: Sequence[Trial]) -> float:
    """Return how much longer a candidate's next rung will take; 0: nothing is known of it.

    By its own rungs, else by those of its family.

    Args:
        trials: all that there were.
    """
    chain, family = rungs(recipe.candidates[candidate]), recipe.point(candidate).family
    own = [trial for trial in trials if trial.candidate == candidate]
    alike = [trial for trial in trials if trial.family == family]
    trained = _trained(recipe, own)
    pieces = [piece for trial in trials for piece in trial.pieces]
    timed = [x.seconds for x in pieces if x.what == "timed" and x.speedup is not None]
    cost = cost_s(
        chain[len(trained)].new_epochs,
        trained or _trained(recipe, alike),
        fixed_s=min(timed, default=0.0),
    )
    begun = [x.seconds for trial in own for x in trial.pieces if x.what == "trained"]
    return max(0.0, cost - sum(begun[len(trained) :]))


def _trained(recipe: Recipe, trials: Sequence[Trial]) -> list[tuple[int, float]]:
    """Return new epochs and seconds of each rung that was trained."""
    return [
        (rung.new_epochs, piece.seconds)
        for trial in trials
        for rung, piece in zip(
            rungs(recipe.candidates[trial.candidate]),
            (piece for piece in trial.pieces if piece.trained),
            strict=False,
        )
    ]


def cost_s(epochs: int, known: Sequence[tuple[int, float]], fixed_s: float = 0.0) -> float:
    """Return how many seconds a rung of so many new epochs will take; 0: nothing is known.

    A line through what is known, which neither falls nor begins below 0: pruning, exporting and
    timing do not grow with the epochs.

    Args:
        known: new epochs and seconds of rungs that were trained.
        fixed_s: what is taken once, where all known rungs have as many epochs.
    """
    if not known:
        return 0.0
    counts, seconds = [x for x, _ in known], [y for _, y in known]
    mean = fmean(seconds)
    if len(set(counts)) == 1:
        if not counts[0]:
            return mean
        fixed = min(fixed_s, mean)
        return fixed + (mean - fixed) / counts[0] * epochs
    slope, fixed = linear_regression(counts, seconds)
    if fixed < 0:
        slope, fixed = linear_regression(counts, seconds, proportional=True)
    return mean if slope < 0 else fixed + slope * epochs
