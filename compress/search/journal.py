"""Which candidate is next, and what of each is known: Optuna's, in a file that outlives a kill.

Optuna proposes points of the candidates' lists and halves what is trained (Akiba et al. 2019,
arXiv:1907.10902; Li et al. 2020, arXiv:1810.05934). Each trial draws with a seed of its own number,
so that a search that was killed proposes what it would have proposed. What is decided together is
written together (`Journal.at_once`): a kill comes before it or after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from compress.recipe.schema import GridPoint
from compress.results.search import Piece, State, Trial
from compress.search.schedule import REDUCTION
from compress.search.whole_writes import WholeWrites
from compress.utils.errors import UserError
from compress.utils.seeding import derive
from compress.workflow.shared import Shared

STUDY = "search"
CANDIDATE, STATE, WHY, ASKED, ENQUEUED = "candidate", "state", "why", "asked", "enqueued"
OPEN, LEFT = "open", "left"
SPENT = "spent_s"  # of the search's own time
ASKS = 10  # of Optuna for a candidate that was not tried, before the next in order is taken
OPTUNAS = {  # how Optuna calls how a trial ended
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "slow": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Begun:
    """A trial that goes on: what is known of it, kept as soon as it is."""

    def __init__(self, trial: optuna.Trial, candidate: str) -> None:
        self.candidate = candidate
        self._trial = trial

    @property
    def pieces(self) -> list[Piece]:
        """Return what was done of it so far."""
        return _pieces(self._trial.user_attrs)

    @property
    def trained(self) -> int:
        """Return how many rungs it has been trained to."""
        return sum(piece.trained for piece in self.pieces)

    @property
    def ended(self) -> bool:
        """Whether it was closed."""
        return STATE in self._trial.user_attrs

    def begin(self, piece: Piece) -> Piece:
        """Keep that a piece was begun, unless one was before; return which."""
        if (begun := _open(self._trial.user_attrs)) is not None:
            return begun
        known = {"number": len(self.pieces), "piece": piece.model_dump()}
        self._trial.set_user_attr(OPEN, known)
        return piece

    def add(self, piece: Piece) -> None:
        """Keep what was done."""
        self._trial.set_user_attr(f"piece {len(self.pieces)}", piece.model_dump())

    def leave(self) -> None:
        """Set it aside, until its next rung fits into the time."""
        self._trial.set_user_attr(LEFT, True)

    def promises_less(self, accuracy: float) -> bool:
        """Return whether others that came so far promise so much more that it is stopped.

        Args:
            accuracy: that it is expected to reach with all epochs.
        """
        self._trial.report(accuracy, REDUCTION ** (self.trained - 1))
        return self._trial.should_prune()

    def bound(self, violations: Mapping[str, float]) -> None:
        """Tell by how much it misses each bound of the budget; 0 and below: it meets it."""
        for name, violation in violations.items():
            self._trial.set_constraint(name, violation)

    def end(self, state: State, why: str, accuracy: float | None = None) -> None:
        """Close it.

        Args:
            accuracy: that it reached, where it is complete.
        """
        self._trial.set_user_attr(STATE, state)
        self._trial.set_user_attr(WHY, why)
        self._trial.study.tell(self._trial, accuracy, OPTUNAS[state])


class Journal:
    """All trials of a search, and what is next."""

    def __init__(
        self,
        path: Path,
        points: Mapping[str, GridPoint],
        seed: int,
        asked: str,
        shared: Shared | None = None,
    ) -> None:
        """Open the journal, or begin it.

        Args:
            points: of each candidate the point that it is, the ones to begin with first.
            asked: what the search is of, in digits: another one needs another folder.
            shared: a store that has the journal, too, for whoever goes on elsewhere.

        Raises:
            UserError: the file is of another search, or is no journal.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._shared, self._name = path, shared, f"{STUDY}/{asked}.journal"
        if shared is not None and not path.is_file() and shared.has(self._name):
            shared.get(self._name, path)
        self._points, self._seed = points, seed
        self._families = list(dict.fromkeys(point.family for point in points.values()))
        try:
            self._file = WholeWrites(path)
            with self.at_once():
                self._study = optuna.create_study(
                    storage=JournalStorage(self._file),
                    study_name=STUDY,
                    direction="maximize",
                    pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
                    load_if_exists=True,
                )
                self._begin(asked)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} cannot be read as the journal of a search ({error}): move it away to "
                "begin anew. What was trained is not lost."
            ) from error

    def _begin(self, asked: str) -> None:
        """Write down what is searched and the first trials, unless that was done.

        Raises:
            UserError: something else is searched here.
        """
        if self._study.user_attrs.get(ASKED, asked) != asked:
            raise UserError(
                f"{self.path} is of another search (its recipe, images or budget were others): "
                "give this one another name, or another --out."
            )
        self.note(ASKED, asked)
        if not self.noted(ENQUEUED):
            for name in _first_of_each(self._points):
                self._study.enqueue_trial(self._params(name))
            self.note(ENQUEUED, True)

    def at_once(self) -> AbstractContextManager[None]:
        """Write all that a block keeps when it ends, or nothing of it."""
        return self._file.at_once()

    def note(self, name: str, value: Any) -> None:
        """Keep something of the search itself."""
        self._study.set_user_attr(name, value)

    def noted(self, name: str, default: Any = None) -> Any:
        """Return what was kept."""
        return self._study.user_attrs.get(name, default)

    def share(self) -> None:
        """Put what is known into the store that others share, if there is one."""
        if self._shared is not None:
            self._shared.send(self.path, self._name)

    def next(self, fits: Callable[[str], bool] = lambda _: True) -> Begun | None:
        """Return the trial to go on with, or a new one; None: there is none whose next rung fits.

        Args:
            fits: whether what is next of a candidate can be done in the time that is left.
        """
        with self.at_once():
            return self._interrupted() or self._set_aside(fits) or self._new(fits)

    def _interrupted(self) -> Begun | None:
        """Return the trial at which the search was stopped, if it was at one."""
        return next((self._again(x) for x in self._running() if not x.user_attrs.get(LEFT)), None)

    def _set_aside(self, fits: Callable[[str], bool]) -> Begun | None:
        """Return the first trial that was left and fits now."""
        for frozen in self._running():
            if fits(frozen.user_attrs[CANDIDATE]):
                begun = self._again(frozen)
                begun._trial.set_user_attr(LEFT, False)
                return begun
        return None

    def _new(self, fits: Callable[[str], bool]) -> Begun | None:
        """Return a trial of a candidate that was not tried: the one that stands in line, the one
        that Optuna proposes, or else the next in order."""
        tried = self._tried()
        untried = [name for name in self._points if name not in tried and fits(name)]
        asks = 0
        while untried:
            asks += not self._waiting()
            if asks > ASKS:
                self._study.enqueue_trial(self._params(untried[0]))
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
            trial = self._study.ask()
            if (name := self._proposed(trial)) in untried:
                trial.set_user_attr(CANDIDATE, name)
                return Begun(trial, name)
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _running(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial for trial in trials if CANDIDATE in trial.user_attrs]

    def _waiting(self) -> bool:
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _again(self, frozen: FrozenTrial) -> Begun:
        self._study.sampler = self._sampler(frozen.number)
        return Begun(optuna.Trial(self._study, frozen._trial_id), frozen.user_attrs[CANDIDATE])

    def _sampler(self, number: int) -> TPESampler:
        """Return what proposes trials: at random until there are as many as families."""
        seed = derive(self._seed, "trial", number) % 2**32
        return TPESampler(seed=seed, n_startup_trials=len(self._families))

    def trials(self) -> list[Trial]:
        """Return all trials, in order."""
        return list(self._trials())

    def _trials(self) -> Iterator[Trial]:
        numbered = (x for x in self._study.get_trials(deepcopy=False) if CANDIDATE in x.user_attrs)
        for number, each in enumerate(numbered, 1):
            name = each.user_attrs[CANDIDATE]
            yield Trial(
                number=number,
                candidate=name,
                family=self._points[name].family,
                state=each.user_attrs.get(STATE, "begun"),
                why=each.user_attrs.get(WHY, ""),
                pieces=[*_pieces(each.user_attrs), *self._interrupted_piece(each)],
            )

    def _interrupted_piece(self, trial: FrozenTrial) -> Iterator[Piece]:
        """Yield the piece that was begun and not ended, with what was spent on it so far."""
        if (piece := _open(trial.user_attrs)) is not None:
            seconds = max(0.0, self.noted(SPENT, 0.0) - piece.begun_s)
            yield piece.model_copy(update={"seconds": seconds})

    def _proposed(self, trial: optuna.Trial) -> str:
        """Return the candidate that Optuna proposes."""
        family = trial.suggest_categorical("candidate", self._families)
        names = {_place(x): name for name, x in self._points.items() if x.family == family}
        of_family = [self._points[name].positions for name in names.values()]
        if not _is_grid(of_family):
            return str(trial.suggest_categorical(f"{family}.point", list(names.values())))
        positions = {
            at: trial.suggest_int(f"{family}.{at}", 0, max(x[at] for x in of_family))
            for at in of_family[0]
        }
        return names[_place(GridPoint(family, positions))]

    def _params(self, name: str) -> dict[str, Any]:
        """Return a candidate as Optuna would propose it."""
        point = self._points[name]
        if not _is_grid([x.positions for x in self._points.values() if x.family == point.family]):
            return {"candidate": point.family, f"{point.family}.point": name}
        of_lists = {f"{point.family}.{at}": i for at, i in point.positions.items()}
        return {"candidate": point.family, **of_lists}

    def _tried(self) -> set[str]:
        trials = self._study.get_trials(deepcopy=False)
        return {x.user_attrs[CANDIDATE] for x in trials if CANDIDATE in x.user_attrs}


def _place(point: GridPoint) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(point.positions.items()))


def _is_grid(positions: Sequence[Mapping[str, int]]) -> bool:
    """Whether every combination of places in the same lists is a point: lists within some items of
    a list are others', or of another length."""
    lists = set(positions[0])
    if any(set(each) != lists for each in positions):
        return False
    return prod(1 + max(each[at] for each in positions) for at in lists) == len(positions)


def _first_of_each(points: Mapping[str, GridPoint]) -> Sequence[str]:
    """Return the first candidate of each family, in order."""
    first: dict[str, str] = {}
    for name, point in points.items():
        first.setdefault(point.family, name)
    return list(first.values())


def _pieces(attributes: Mapping[str, Any]) -> list[Piece]:
    found: list[Piece] = []
    while (key := f"piece {len(found)}") in attributes:
        found.append(Piece.model_validate(attributes[key]))
    return found


def _open(attributes: Mapping[str, Any]) -> Piece | None:
    """Return the piece that was begun and not ended, if there is one."""
    known = attributes.get(OPEN)
    if known is None or f"piece {known['number']}" in attributes:
        return None
    return Piece.model_validate(known["piece"])
