"""When a search is over, and what more of it is expected to bring."""

from dataclasses import dataclass
from math import inf, isfinite
from statistics import fmean

from compress.analysis.choose import Choice
from compress.analysis.explain import SURE, name
from compress.results.search import Trial
from compress.search.journal import Journal
from compress.search.judged import Judged
from compress.search.own_time import OwnTime
from compress.search.projection import expected_gain
from compress.utils import units

WORTH = 0.001  # of accuracy: more trials that are expected to bring less are not begun


@dataclass(frozen=True)
class Outlook:
    """What is known of a search so far, and what that says of the rest of it.

    Attributes:
        own: what is left of it is what is left for trials.
        within_s: of the search in all.
        wanted: a probability of meeting the budget with which it ends.
        allowed: the highest that the images allow, at the usual disagreement; it ends with that,
            too.
    """

    judged: Judged
    journal: Journal
    own: OwnTime
    within_s: float
    wanted: float = SURE
    allowed: float = 1.0

    def enough(self) -> str:
        """Return why no further trial is begun, if none is."""
        if self.own.left_s <= 0:
            return "The time is up."
        return self._shown() or self._no_use()

    def unfinished(self) -> int:
        """Return how many candidates were not taken to an end."""
        return len(self.judged.recipe.candidates) - len(self._ended())

    def line(self) -> str:
        """Return a line: what was spent, the pick, and what another hour would bring."""
        choice, trials = self.judged.choice(), self.journal.trials()
        said = [f"{units.duration(self.own.spent_s)} of {units.duration(self.within_s)}"]
        said.append(f"{len(trials)} of {len(self.judged.recipe.candidates)} candidates tried")
        if choice.picked:
            said.append(f"pick: {name(choice.picked)}, {_numbers(choice)}")
        elif choice.nearest_miss:
            said.append(f"nothing fits; nearest: {choice.nearest_misses}")
        more = self._more(3600)
        said.append(f"another hour would try about {more:.0f} more that are fast enough")
        if choice.picked and isfinite(gain := self._gain(more)):
            said[-1] += f", and is expected to bring {units.points(gain)} points"
        return "; ".join(said).removesuffix(".") + "."

    def _shown(self) -> str:
        """Return that the pick is as surely within the budget as these images show, if it is.

        Where nothing is asked of the accuracy, the first that is fast enough is not the best.
        """
        choice, budget = self.judged.choice(), self.judged.budget
        asked = budget.max_accuracy_drop is not None or budget.min_accuracy is not None
        if choice.picked is None or not asked:
            return ""
        reached = 1.0 if choice.probability is None else choice.probability
        if reached < min(self.wanted, self.allowed):
            return ""
        met = (
            f"{name(choice.picked)} meets the budget with {units.probability(reached)} probability"
        )
        if self.wanted <= self.allowed:
            return f"{met}, where {units.probability(self.wanted)} are enough."
        return (
            f"{met}: about as much as these images allow, which is "
            f"{units.probability(self.allowed)} for a candidate as accurate as the teacher."
        )

    def _no_use(self) -> str:
        """Return that nothing left is expected to help, if so."""
        if not self.unfinished() or (gain := self._gain(self._more())) >= WORTH:
            return ""
        beyond = "" if self.judged.choice().picked else " beyond the accuracy that is needed"
        return (
            f"Nothing left is expected to help: {units.points(gain)} points{beyond} from the "
            f"{self.unfinished()} candidates that are left."
        )

    def _more(self, within_s: float | None = None) -> float:
        """Return how many further trials are expected to be fast enough.

        Args:
            within_s: in this time; None: however long they take.
        """
        trials = self._ended()
        fast = sum(self.judged.is_fast(x.candidate) for x in trials) / max(1, len(trials))
        count = float(self.unfinished())
        if within_s is not None and trials:
            count = min(count, within_s / max(1e-9, fmean(x.seconds for x in trials)))
        return fast * count

    def _gain(self, more: float) -> float:
        """Return how much accuracy so many further trials are expected to bring.

        Infinite while there is a family of which nothing is known, and while nothing that was tried
        to its end is fast enough.
        """
        trials, picked = self._ended(), self.judged.choice().picked
        best = self.judged.needed() if picked is None else picked.accuracy.top1.value
        judged = [x for x in trials if x.state in ("complete", "stopped")]
        found = [_expected(x) for x in judged if self.judged.is_fast(x.candidate)]
        recipe = self.judged.recipe
        families = {recipe.point(each).family for each in recipe.candidates}
        if self.unfinished() and (not found or families - {x.family for x in trials}):
            return inf
        return expected_gain(found, best, more)

    def _ended(self) -> list[Trial]:
        return [trial for trial in self.journal.trials() if trial.state != "begun"]


def _expected(trial: Trial) -> float:
    """Return the accuracy that a trial reached, or would have with all its epochs."""
    last = [piece for piece in trial.pieces if piece.trained][-1]
    assert last.accuracy is not None
    return last.projected.value if trial.state == "stopped" and last.projected else last.accuracy


def _numbers(choice: Choice) -> str:
    """Return what matters of a pick: how fast, what it costs, how sure."""
    row = choice.picked
    assert row is not None
    said = [f"{units.times(row.speedup.ratio)} times as fast"] if row.speedup else []
    if row.accuracy.top1_drop:
        said.append(f"{units.points(row.accuracy.top1_drop.value)} points lost")
    if choice.probability is not None:
        said.append(f"meets the target with {units.probability(choice.probability)} probability")
    return ", ".join(said)
