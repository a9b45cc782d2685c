"""Trials: what is tried next, how far it is taken, and when it is enough."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice, choose
from compress.analysis.explain import SURE
from compress.analysis.explain import name as row_name
from compress.recipe.schema import Recipe
from compress.results.file import as_lines, read
from compress.results.merge import merge
from compress.results.schema import Result
from compress.results.search import Pick, Piece, State
from compress.search.journal import Begun, Journal
from compress.search.lab import Lab, TimeUp, Timing, in_time
from compress.search.parts import on_part
from compress.search.projection import expected_gain, projected
from compress.search.schedule import Rung, rungs
from compress.utils import units
from compress.utils.errors import StorageFailed, UserError
from compress.utils.files import write_text
from compress.utils.interval import Interval

SLACK = 1.1  # an untrained network's times are those of the trained one to within so much
WORTH = 0.001  # of accuracy: more trials that are expected to bring less are not begun
SPENT, OVERHEAD, PICKS = "spent_s", "overhead_s", "picks"
SEARCHED = "searched"  # the part of the validation images


class End(NamedTuple):
    """How a trial ends, and why."""

    state: State
    why: str
    accuracy: float | None = None  # that it reached, where it is complete


@dataclass
class Trials:
    """Trials that go on until the time is up, or more of them would be no use.

    Attributes:
        teacher: its rows, by the searched images.
        searched: positions, among the validation images, of those that decisions are made by.
        reserved_s: of the time, for the last picks.
        begun_s: when the search began, by the clock, had it never been stopped.
        sure: the highest probability that the images allow, given the best choice so far.
        folder: gets the rows of each trial.
        say: tells the user.
    """

    recipe: Recipe
    budget: Budget
    within_s: float
    reserved_s: float
    teacher: Sequence[Result]
    searched: np.ndarray
    journal: Journal
    lab: Lab
    clock: Callable[[], float]
    begun_s: float
    say: Callable[[str], None]
    folder: Path
    sure: Callable[[Choice], float] = lambda _: SURE
    _rows: dict[tuple[str, int], list[Result]] = field(default_factory=dict)
    _choice: Choice | None = None  # of the rows that there are now, once it was asked for
    _pieces_s: float = 0.0

    def run(self) -> str:
        """Try candidates; return in a sentence why it ended.

        Where it was stopped before, it goes on from there.

        Raises:
            UserError: what was trained before is not here, and cannot be made again, or in time.
            StorageFailed: no trial can go on.
        """
        began = self.clock()
        with in_time("what had been trained elsewhere was trained again"):
            self._load()
        ended = self._try()
        own_s = self.clock() - began - self._pieces_s
        self.journal.note(OVERHEAD, self.journal.noted(OVERHEAD, 0.0) + own_s)
        return ended

    def _try(self) -> str:
        while not (ended := self._enough()):
            trial = self.journal.next()
            if trial is None:
                return "Every candidate of the recipe was tried."
            if not self._take(trial):
                return "The time is up."
            self._keep_pick()
            self.say(self.outlook())
        return ended

    @property
    def spent_s(self) -> float:
        """The search's own time, which stands still while nothing runs."""
        return self.clock() - self.begun_s

    @property
    def left_s(self) -> float:
        """What is left for trials."""
        return self.within_s - self.reserved_s - self.spent_s

    def choice(self) -> Choice:
        """Return what would be chosen now, by the searched images."""
        if self._choice is None:
            self._choice = choose(self.rows(), self.budget)
        return self._choice

    def rows(self) -> list[Result]:
        """Return the rows of all trials and the teacher's, by the searched images."""
        return merge([*self.teacher, *(row for rows in self._rows.values() for row in rows)])

    def chains(self) -> dict[str, list[Any]]:
        """Return the chain of every row, by its candidate's name."""
        found = {}
        for candidate, rung in self._rows:
            chain = rungs(self.recipe.candidates[candidate])
            found[_shown(candidate, chain, rung)] = chain[rung].chain
        return found

    def _take(self, trial: Begun) -> bool:
        """Take a trial as far as it is worth; return whether it came to its end in time.

        Raises:
            StorageFailed: no trial can go on; this one does, the next time.
        """
        try:
            end = self._end_of(trial)
        except TimeUp:
            self._pieces_s += self.spent_s - self.journal.noted(SPENT, 0.0)
            self.journal.note(SPENT, self.spent_s)
            return False
        except StorageFailed:
            raise
        except UserError as error:
            self.say(f"{trial.candidate} failed: {error}")
            end = End("failed", str(error))
        if end is not None:
            trial.end(*end)
        return end is not None

    def _end_of(self, trial: Begun) -> End | None:
        """Take a trial as far as it is worth; return how it ends, None: not in time."""
        chain = rungs(self.recipe.candidates[trial.candidate])
        if chain[-1].epochs and not trial.pieces and (slow := self._too_slow(trial)):
            return End("slow", slow)
        for k in range(trial.trained, len(chain)):
            if k and (why := self._hopeless(trial, chain)):
                self._bound(trial, k - 1)
                return End("stopped", why)
            if self._cost_s(trial, chain) > self.left_s:
                return None
            self._train(trial, chain)
        self._bound(trial, len(chain) - 1)
        accuracy = self._accuracy(trial)
        return End("complete", f"{units.percent(accuracy)} % with all its epochs.", accuracy)

    def _too_slow(self, trial: Begun) -> str:
        """Time it untrained; return why no training would make it fast enough, if so."""
        begun, timings = self.spent_s, self.lab.timed(trial.candidate)
        fastest = max(timing.speedup for timing in timings)
        self._add(trial, Piece(what="timed", begun_s=begun, seconds=0, speedup=fastest))
        misses = [
            _misses(timing, self.budget) for timing in timings if self._served(timing.runtime)
        ]
        if not misses:
            return f"It does not run in {self.budget.runtime}."
        nearest = min(misses, key=lambda missed: sum(x for x, _ in missed.values()))
        if slow := "; ".join(said for excess, said in nearest.values() if excess > 0):
            trial.bound({name: excess for name, (excess, _) in nearest.items()})
        return slow

    def _served(self, runtime: str) -> bool:
        return self.budget.runtime in (None, runtime)

    def _train(self, trial: Begun, chain: Sequence[Rung]) -> None:
        """Train to the next rung, and judge what came of it."""
        begun, rung = self.spent_s, chain[trial.trained]
        rows = self._measured(trial.candidate, trial.trained)
        rows = self._hold(trial.candidate, trial.trained, rows)
        own = [row for row in rows if row.role != "teacher"]
        piece = Piece(
            what="trained",
            begun_s=begun,
            seconds=0,
            epochs=rung.epochs or None,
            accuracy=max(row.accuracy.top1.value for row in own),
            projected=self._projected(trial, own),
            speedup=max((row.speedup.ratio.value for row in own if row.speedup), default=None),
        )
        self._add(trial, piece)

    def _bound(self, trial: Begun, rung: int) -> None:
        """Tell Optuna by how much the row that is nearest to the budget misses its bounds."""
        missed = [
            {x.field: x.excess(x.value(row), limit) for x, limit in self.budget.limits()}
            for row in self._rows[trial.candidate, rung]
            if row.role != "teacher" and self._served(row.artifact.runtime)
        ]
        if missed:
            trial.bound(min(missed, key=lambda each: sum(each.values())))

    def _add(self, trial: Begun, piece: Piece) -> None:
        seconds = self.spent_s - piece.begun_s
        self._pieces_s += seconds
        trial.add(piece.model_copy(update={"seconds": seconds}))
        self.journal.note(SPENT, self.spent_s)

    def _hopeless(self, trial: Begun, chain: Sequence[Rung]) -> str:
        """Return why a trial is not worth further epochs, if so.

        What a rung promises is known from earlier trials of the same family; the first of it goes
        all the way.
        """
        promised = trial.pieces[-1].projected
        if promised is None:
            return ""
        said = (
            f"{_between(promised)} are expected with {chain[-1].epochs} epochs, by "
            f"{chain[trial.trained - 1].epochs}"
        )
        if promised.high < (needed := self._needed()):
            return f"{said}, and {units.percent(needed)} % are needed."
        if trial.promises_less(promised.value):
            return f"{said}, and others promise more."
        return ""

    def _needed(self) -> float:
        """Return the accuracy that the budget asks for, on the searched images."""
        teacher = max(row.accuracy.top1.value for row in self.teacher)
        lost = self.budget.max_accuracy_drop
        return max(self.budget.min_accuracy or 0.0, 0.0 if lost is None else teacher - lost)

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

    def _accuracy(self, trial: Begun) -> float:
        return next(x.accuracy for x in reversed(trial.pieces) if x.accuracy is not None)

    def _cost_s(self, trial: Begun, chain: Sequence[Rung]) -> float:
        """Return how long the next rung will take, by the trial's own epochs or its family's."""
        rung = chain[trial.trained]
        own = [x for x in trial.pieces if x.what == "trained"]
        if own:
            return own[-1].seconds / max(1, chain[len(own) - 1].new_epochs) * rung.new_epochs
        family = self.recipe.point(trial.candidate).family
        first = [
            next(x.seconds for x in each.pieces if x.what == "trained")
            for each in self.journal.trials()
            if each.family == family and any(x.what == "trained" for x in each.pieces)
        ]
        return fmean(first) if first else 0.0

    def _enough(self) -> str:
        """Return why no further trial is begun, if none is."""
        if self.left_s <= 0:
            return "The time is up."
        choice = self.choice()
        if choice.picked is None:
            return ""
        sure = self.sure(choice)
        if (choice.probability if choice.probability is not None else 1.0) >= sure:
            return (
                f"{row_name(choice.picked)} meets the budget with "
                f"{units.probability(choice.probability or 1.0)} probability: more cannot be shown "
                "with these images."
            )
        if (gain := self._gain(self._more())) < WORTH:
            return (
                f"Nothing left is expected to help: {units.points(gain)} points from the "
                f"{self._untried()} candidates that were not tried."
            )
        return ""

    def _untried(self) -> int:
        return len(self.recipe.candidates) - len(self.journal.trials())

    def _more(self, within_s: float | None = None) -> float:
        """Return how many further trials are expected to be fast enough.

        Args:
            within_s: in this time; None: however long they take.
        """
        trials = [x for x in self.journal.trials() if x.state != "begun"]
        fast = sum(x.state in ("complete", "stopped") for x in trials) / max(1, len(trials))
        count = float(self._untried())
        if within_s is not None and trials:
            count = min(count, within_s / max(1e-9, fmean(x.seconds for x in trials)))
        return fast * count

    def _gain(self, more: float) -> float:
        picked = self.choice().picked
        best = self._needed() if picked is None else picked.accuracy.top1.value
        found = [
            max(x.accuracy for x in trial.pieces if x.accuracy is not None)
            for trial in self.journal.trials()
            if trial.state == "complete"
        ]
        return expected_gain(found, best, more)

    def outlook(self) -> str:
        """Return a line: what was spent, the pick, and what another hour would bring."""
        choice = self.choice()
        trials = self.journal.trials()
        said = [f"{units.duration(self.spent_s)} of {units.duration(self.within_s)}"]
        said.append(f"{len(trials)} of {len(self.recipe.candidates)} candidates tried")
        if choice.picked:
            said.append(f"pick: {row_name(choice.picked)}, {_numbers(choice)}")
        elif choice.nearest_miss:
            said.append(f"nothing fits; nearest: {choice.nearest_misses}")
        more = self._more(3600)
        said.append(f"another hour would try about {more:.0f} more that are fast enough")
        if choice.picked and np.isfinite(gain := self._gain(more)):
            said[-1] += f", and is expected to bring {units.points(gain)} points"
        return "; ".join(said).removesuffix(".") + "."

    def _keep_pick(self) -> None:
        """Note the pick where it is another than before."""
        picks = self.picks()
        row = self.choice().picked
        if row is None or (picks and picks[-1].candidate == row.candidate):
            return
        new = Pick(
            at_s=self.spent_s,
            candidate=row.candidate,
            epochs=len(row.training.epochs) if row.training else None,
            accuracy=row.accuracy.top1.value,
            speedup=row.speedup.ratio.value if row.speedup else None,
        )
        self.journal.note(PICKS, [pick.model_dump() for pick in [*picks, new]])

    def picks(self) -> list[Pick]:
        """Return what was the best, in order of time."""
        return [Pick.model_validate(each) for each in self.journal.noted(PICKS, [])]

    def _measured(self, candidate: str, rung: int) -> list[Result]:
        """Have a rung trained and measured; its rows lie in a file from then on."""
        chain = rungs(self.recipe.candidates[candidate])
        rows = self.lab.trained(candidate, chain[rung], _shown(candidate, chain, rung))
        write_text(self._file(candidate, rung), as_lines(rows))
        return rows

    def _hold(self, candidate: str, rung: int, rows: Sequence[Result]) -> list[Result]:
        self._choice = None
        self._rows[candidate, rung] = on_part(rows, self.searched, SEARCHED)
        return self._rows[candidate, rung]

    def _load(self) -> None:
        """Read what trials before have left; where that was elsewhere, measure it here."""
        for trial in self.journal.trials():
            trained = [piece for piece in trial.pieces if piece.what == "trained"]
            for rung in range(len(trained)):
                file = self._file(trial.candidate, rung)
                known = file.is_file()
                rows = read(file).rows if known else self._measured(trial.candidate, rung)
                self._hold(trial.candidate, rung, rows)

    def _file(self, candidate: str, rung: int) -> Path:
        return self.folder / f"{candidate}-{rung}.jsonl"


def _shown(candidate: str, chain: Sequence[Rung], rung: int) -> str:
    """Return what the rows of a rung are called: the last is the candidate."""
    if rung == len(chain) - 1:
        return candidate
    return f"{candidate}-after-{chain[rung].epochs}-epochs"


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
