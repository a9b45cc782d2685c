"""Trials: what is tried next, how far it is taken, and when it is enough."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from compress.analysis.budget import Budget
from compress.recipe.schema import Recipe
from compress.results.schema import Result
from compress.results.search import Pick, Piece
from compress.search.costs import next_rung_s
from compress.search.journal import Begun, Journal
from compress.search.judged import Judged
from compress.search.lab import Lab, TimeUp, Timing, in_time
from compress.search.outlook import Outlook
from compress.search.own_time import OwnTime
from compress.search.projection import projected
from compress.search.schedule import Rung, rungs
from compress.utils import units
from compress.utils.errors import StorageFailed, UserError
from compress.utils.interval import Interval

SLACK = 1.1  # an untrained network's times are those of the trained one to within so much
OVERHEAD, PICKS = "overhead_s", "picks"


@dataclass
class Trials:
    """Trials that go on until the time is up, or more of them would be no use.

    What is decided together is kept in one write, so that a kill comes before it or after it.

    Attributes:
        own: what is left of it is what is left for trials.
        say: tells the user.
    """

    recipe: Recipe
    budget: Budget
    journal: Journal
    judged: Judged
    lab: Lab
    own: OwnTime
    outlook: Outlook
    say: Callable[[str], None]
    _idle_since_s: float = field(default=0.0, init=False)  # when the last piece ended

    def run(self) -> str:
        """Try candidates; return in a sentence why it ended.

        Where it was stopped before, it goes on from there.

        Raises:
            UserError: what was trained before is not here, and cannot be made again, or in time.
            StorageFailed: no trial can go on.
        """
        with in_time("what had been trained elsewhere was trained again"):
            self.judged.load(self.journal.trials())
        self._idle_since_s = self.own.spent_s
        ended = self._try()
        with self.journal.at_once():
            self._keep_pick()
            self._note_overhead()
        return ended

    def picks(self) -> list[Pick]:
        """Return what was the best, in order of time."""
        return [Pick.model_validate(each) for each in self.journal.noted(PICKS, [])]

    def keep_pick(self, row: Result | None) -> None:
        """Note the pick where it is another than before."""
        picks = self.picks()
        if row is None or (picks and picks[-1].candidate == row.candidate):
            return
        new = Pick(
            at_s=self.own.spent_s,
            candidate=row.candidate,
            epochs=len(row.training.epochs) if row.training else None,
            accuracy=row.accuracy.top1.value,
            speedup=row.speedup.ratio.value if row.speedup else None,
        )
        self.journal.note(PICKS, [pick.model_dump() for pick in [*picks, new]])

    def _try(self) -> str:
        while not (ended := self.outlook.enough()):
            if (trial := self.journal.next(self._fits())) is None:
                return self._none_left()
            try:
                self._take(trial)
            except TimeUp:
                self.own.note()
                return "The time is up."
            except StorageFailed:
                raise
            except UserError as error:
                self._fail(trial, error)
            self.say(self.outlook.line())
        return ended

    def _none_left(self) -> str:
        if not (left := self.outlook.unfinished()):
            return "Every candidate of the recipe was tried."
        return (
            f"The time is up: none of the {left} candidates that are left would come to its next "
            f"measurement in {units.duration(self.own.left_s)}."
        )

    def _take(self, trial: Begun) -> None:
        """Take a trial as far as it is worth; where its next rung does not fit, it is left.

        Raises:
            TimeUp: the time was up all the same; it goes on the next time.
            UserError: it cannot be made.
            StorageFailed: no trial can go on; this one does, the next time.
        """
        chain = rungs(self.recipe.candidates[trial.candidate])
        if chain[-1].epochs and not trial.pieces:
            self._time(trial)
        while not trial.ended:
            if not self._fits()(trial.candidate):
                trial.leave()
                return
            self._train(trial, chain)

    def _fail(self, trial: Begun, error: UserError) -> None:
        self.say(f"{trial.candidate} failed: {error}")
        with self.journal.at_once():
            self._add(trial, trial.begin(self._piece("trained")))
            trial.end("failed", str(error))
        self.journal.share()

    def _time(self, trial: Begun) -> None:
        """Time it untrained; end it where no training would make it fast enough."""
        self._begin(trial, self._piece("timed"))
        timings = self.lab.timed(trial.candidate)
        fastest = max(timing.speedup for timing in timings)
        with self.journal.at_once():
            self._add(trial, self._piece("timed", speedup=fastest))
            if slow := self._too_slow(trial, timings):
                trial.end("slow", slow)
        self.journal.share()

    def _too_slow(self, trial: Begun, timings: Sequence[Timing]) -> str:
        """Return why no training would make it fast enough, if so."""
        misses = [
            _misses(timing, self.budget) for timing in timings if self.judged.serves(timing.runtime)
        ]
        if not misses:
            return f"It does not run in {self.budget.runtime}."
        nearest = min(misses, key=lambda missed: sum(x for x, _ in missed.values()))
        if slow := "; ".join(said for excess, said in nearest.values() if excess > 0):
            trial.bound({name: excess for name, (excess, _) in nearest.items()})
        return slow

    def _train(self, trial: Begun, chain: Sequence[Rung]) -> None:
        """Train to the next rung, judge what came of it, and decide whether it goes on."""
        rung = chain[trial.trained]
        self._begin(trial, self._piece("trained"))
        rows = self.judged.measure(trial.candidate, trial.trained)
        own = [row for row in rows if row.role != "teacher"]
        piece = self._piece(
            "trained",
            epochs=rung.epochs or None,
            accuracy=max(row.accuracy.top1.value for row in own),
            projected=self._projected(trial, own),
            speedup=max((row.speedup.ratio.value for row in own if row.speedup), default=None),
        )
        with self.journal.at_once():
            self._add(trial, piece)
            self._keep_pick()
            self._decide(trial, chain, piece)
        self.journal.share()

    def _decide(self, trial: Begun, chain: Sequence[Rung], piece: Piece) -> None:
        """End a trial that is complete, or whose further epochs would be no use."""
        assert piece.accuracy is not None
        if trial.trained == len(chain):
            self._bound(trial)
            said = f"{units.percent(piece.accuracy)} % with all its epochs."
            trial.end("complete", said, piece.accuracy)
        elif why := self._hopeless(trial, chain, piece.projected):
            self._bound(trial)
            trial.end("stopped", why)

    def _bound(self, trial: Begun) -> None:
        """Tell Optuna by how much the row that is nearest to the budget misses its bounds."""
        missed = [
            {x.field: x.excess(x.value(row), limit) for x, limit in self.budget.limits()}
            for row in self.judged.of(trial.candidate)
        ]
        if missed:
            trial.bound(min(missed, key=lambda each: sum(each.values())))

    def _piece(self, what: Literal["timed", "trained"], **known: Any) -> Piece:
        """Return a piece that begins now, if none was begun."""
        return Piece(what=what, begun_s=self.own.spent_s, seconds=0, **known)

    def _begin(self, trial: Begun, piece: Piece) -> None:
        with self.journal.at_once():
            self._note_overhead()
            trial.begin(piece)
            self.own.note()

    def _add(self, trial: Begun, piece: Piece) -> None:
        """Keep a piece that ends now, with when it was begun."""
        begun = trial.begin(piece)
        update = {"begun_s": begun.begun_s, "seconds": self.own.spent_s - begun.begun_s}
        trial.add(piece.model_copy(update=update))
        self.own.note()
        self._idle_since_s = self.own.spent_s

    def _note_overhead(self) -> None:
        """Keep what passed since the last piece ended."""
        more_s = self.own.spent_s - self._idle_since_s
        self.journal.note(OVERHEAD, self.journal.noted(OVERHEAD, 0.0) + more_s)
        self._idle_since_s = self.own.spent_s

    def _keep_pick(self) -> None:
        self.keep_pick(self.judged.choice().picked)

    def _hopeless(self, trial: Begun, chain: Sequence[Rung], promised: Interval | None) -> str:
        """Return why a trial is not worth further epochs, if so.

        What a rung promises is known from earlier trials of the same family; the first of it goes
        all the way.
        """
        if promised is None:
            return ""
        said = (
            f"{_between(promised)} are expected with {chain[-1].epochs} epochs, by "
            f"{chain[trial.trained - 1].epochs}"
        )
        if promised.high < (needed := self.judged.needed()):
            return f"{said}, and {units.percent(needed)} % are needed."
        if trial.promises_less(promised.value):
            return f"{said}, and others promise more."
        return ""

    def _projected(self, trial: Begun, own: Sequence[Result]) -> Interval | None:
        """Return what the whole schedule would reach, by earlier trials of the same family."""
        family, rung = self.recipe.point(trial.candidate).family, trial.trained
        gains = [
            reached[-1] - reached[rung]
            for each in self.journal.trials()
            if each.family == family and each.state == "complete"
            if len(reached := [x.accuracy for x in each.pieces if x.accuracy is not None]) > rung
        ]
        best = max(own, key=lambda row: row.accuracy.top1.value).accuracy
        return projected(best.top1.value, best.images, gains)

    def _fits(self) -> Callable[[str], bool]:
        """Return what tells of a candidate whether its next rung can be done in what is left."""
        known, left_s = self.journal.trials(), self.own.left_s
        return lambda candidate: next_rung_s(self.recipe, candidate, known) <= left_s


def _misses(timing: Timing, budget: Budget) -> Mapping[str, tuple[float, str]]:
    """Return by how much each bound on speed and size is missed, and that in words.

    0 where it is met, or where the trained network may meet it.
    """
    found = {}
    for bound, limit in budget.limits():
        if (value := getattr(timing, bound.field, None)) is not None:
            kindly = value * SLACK if bound.at_least else value / SLACK
            said = f"Untrained in {timing.runtime}: {bound.miss(value, limit)}"
            found[bound.field] = bound.excess(kindly, limit), said
    return found


def _between(interval: Interval) -> str:
    return f"{units.percent(interval.value)} % ({units.percent_range(interval)})"
