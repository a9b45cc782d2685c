"""Which candidate is next, and what of each is known: Optuna's, in a file that outlives a kill.

Optuna proposes points of the candidates' lists and halves what is trained (Akiba et al. 2019,
arXiv:1907.10902; Li et al. 2020, arXiv:1810.05934). Each trial draws with a seed of its own number,
so that a search that was killed proposes what it would have proposed.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from compress.recipe.schema import GridPoint
from compress.results.search import Piece, State, Trial
from compress.search.schedule import REDUCTION
from compress.utils.errors import UserError
from compress.utils.seeding import derive
from compress.workflow.shared import Shared

STUDY = "search"
CANDIDATE, STATE, WHY, ASKED, ENQUEUED = "candidate", "state", "why", "asked", "enqueued"
WENT_ON = "went on"
OPTUNAS = {  # how Optuna calls how a trial ended
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "slow": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Begun:
    """A trial that goes on: what is known of it, kept as soon as it is."""

    def __init__(self, trial: optuna.Trial, candidate: str, share: Callable[[], None]) -> None:
        self.candidate = candidate
        self._trial, self._share = trial, share

    @property
    def pieces(self) -> list[Piece]:
        """Return what was done of it so far."""
        return _pieces(self._trial.user_attrs)

    @property
    def trained(self) -> int:
        """Return how many rungs it has been trained to."""
        return sum(piece.what == "trained" for piece in self.pieces)

    def add(self, piece: Piece) -> None:
        """Keep what was done."""
        self._trial.set_user_attr(f"piece {len(self.pieces)}", piece.model_dump())
        self._share()

    def promises_less(self, accuracy: float) -> bool:
        """Return whether others that came so far promise so much more that it is stopped.

        Args:
            accuracy: that it is expected to reach with all epochs.
        """
        step = REDUCTION ** (self.trained - 1)
        if self._trial.user_attrs.get(WENT_ON, 0) >= step:
            return False  # it was asked before, and then killed
        self._trial.report(accuracy, step)
        if self._trial.should_prune():
            return True
        self._trial.set_user_attr(WENT_ON, step)
        return False

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
        self._share()


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
        self._path, self._shared, self._name = path, shared, f"{STUDY}/{asked}.journal"
        if shared is not None and not path.is_file() and shared.has(self._name):
            shared.get(self._name, path)
        backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
        try:
            self._study = optuna.create_study(
                storage=JournalStorage(backend),
                study_name=STUDY,
                direction="maximize",
                pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} cannot be read as the journal of a search ({error}): move it away to "
                "begin anew. What was trained is not lost."
            ) from error
        self._points, self._seed = points, seed
        self._names = {
            (point.family, tuple(sorted(point.positions.items()))): name
            for name, point in points.items()
        }
        if self._study.user_attrs.setdefault(ASKED, asked) != asked:
            raise UserError(
                f"{path} is of another search (its recipe, images or budget were others): give "
                "this one another name, or another --out."
            )
        self._study.set_user_attr(ASKED, asked)
        if not self._study.user_attrs.get(ENQUEUED):
            for name in _first_of_each(points):
                self._study.enqueue_trial(self._params(name), skip_if_exists=True)
            self._study.set_user_attr(ENQUEUED, True)

    def note(self, name: str, value: Any) -> None:
        """Keep something of the search itself."""
        self._study.set_user_attr(name, value)

    def noted(self, name: str, default: Any = None) -> Any:
        """Return what was kept."""
        return self._study.user_attrs.get(name, default)

    def share(self) -> None:
        """Put what is known into the store that others share, if there is one."""
        if self._shared is not None:
            self._shared.send(self._path, self._name)

    def next(self) -> Begun | None:
        """Return the trial that was begun and not ended, or a new one; None: all were tried."""
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.sampler = self._sampler(frozen.number)
            if begun := self._begun(optuna.Trial(self._study, frozen._trial_id)):
                return begun
        while len(self._tried()) < len(self._points):
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
            if begun := self._begun(self._study.ask()):
                return begun
        return None

    def _sampler(self, number: int) -> TPESampler:
        return TPESampler(seed=derive(self._seed, "trial", number) % 2**32)

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
                pieces=_pieces(each.user_attrs),
            )

    def _begun(self, trial: optuna.Trial) -> Begun | None:
        """Return the trial of a candidate; of one that was tried the trial is closed instead, and
        one that was not stands in line."""
        if name := trial.user_attrs.get(CANDIDATE):
            return Begun(trial, name, self.share)
        name, tried = self._proposed(trial), self._tried()
        if name not in tried:
            trial.set_user_attr(CANDIDATE, name)
            return Begun(trial, name, self.share)
        self._study.tell(trial, state=TrialState.FAIL)
        rng = random.Random(derive(self._seed, "another", trial.number))
        another = rng.choice([name for name in self._points if name not in tried])
        self._study.enqueue_trial(self._params(another))
        return None

    def _proposed(self, trial: optuna.Trial) -> str:
        """Return the candidate that Optuna proposes."""
        families = list(dict.fromkeys(point.family for point in self._points.values()))
        family = trial.suggest_categorical("candidate", families)
        of_family = [x.positions for x in self._points.values() if x.family == family]
        if not _is_grid(of_family):
            names = [name for name, x in self._points.items() if x.family == family]
            return str(trial.suggest_categorical(f"{family}.point", names))
        positions = {
            at: trial.suggest_int(f"{family}.{at}", 0, max(x[at] for x in of_family))
            for at in of_family[0]
        }
        return self._names[family, tuple(sorted(positions.items()))]

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


def _is_grid(positions: Sequence[Mapping[str, int]]) -> bool:
    """Whether every point has a place in the same lists: lists within some items of a list are
    others'."""
    return len({frozenset(x) for x in positions}) == 1


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
