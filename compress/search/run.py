"""`compress search`: the teacher, trials, the last picks and their proof. It reads as that."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice, choose, fits
from compress.analysis.explain import SURE, name
from compress.cascade.recipe import load_any
from compress.measure.machine import usable_threads
from compress.models.builders import identity
from compress.models.weight_sources import fingerprint, is_file
from compress.recipe.load import students_of
from compress.recipe.schema import BudgetSettings, Recipe
from compress.results.schema import Result
from compress.results.search import Proof, Search, Trial
from compress.search.ceiling import Ceiling, ceilings
from compress.search.journal import Journal
from compress.search.judged import SEARCHED, Judged
from compress.search.lab import StageLab, Validation, with_teachers
from compress.search.order import in_order
from compress.search.outlook import Outlook
from compress.search.own_time import OwnTime
from compress.search.parts import Parts, draw_parts, on_part
from compress.search.proof import check_images, last_picks, proofs, proofs_with
from compress.search.target import (
    about_images,
    allowed_by,
    is_bounded,
    refuse_beyond,
    refuse_met,
    refuse_other_runtime,
)
from compress.search.trials import OVERHEAD, Trials
from compress.utils import units
from compress.utils.alone import alone_on_machine
from compress.utils.errors import UserError
from compress.utils.interval import Interval
from compress.utils.progress import Progress
from compress.workflow.executors.executor import Executor
from compress.workflow.plan import plan_teacher
from compress.workflow.run import RUNS, alone

JOURNAL, ROWS, UNTRAINED = "search.journal", "trials", "untrained.safetensors"
KEPT = "kept"
CEILINGS = "without a network"
LAST = 0.1  # share of the time for the last picks


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    search: Search
    rows: list[Result]  # of the last picks, if there are any, and the teacher, by the kept images
    pick: Recipe | None  # that makes the pick; None: there is none, or it is the teacher
    choice: Choice  # by the searched images

    @property
    def holds(self) -> bool:
        """Whether the pick meets the budget by the kept images, too, by the numbers as measured."""
        if self.choice.picked is None:
            return False
        budget = replace(self.choice.budget, confidence=None)
        return any(fits(row, budget) for row in self.rows if row.key == self.choice.picked.key)

    @property
    def said(self) -> list[str]:
        """Return what the proof says of each pick, a sentence each."""
        return [
            f"{proof.candidate} in {proof.runtime}: {_lost(proof.drop)} on {proof.on} "
            f"({proof.images}), where the {proof.searched_images} that it was chosen by said "
            f"{_lost(proof.searched_drop)}."
            for proof in self.search.proofs
        ]

    @property
    def instead(self) -> str:
        """Return what could be had instead."""
        if self.choice.picked is not None:
            return f"{name(self.choice.picked)} met it by the images that it was chosen by alone."
        if self.choice.nearest_miss is not None:
            return " ".join([f"Nearest: {self.choice.nearest_misses}.", *self.choice.hints()])
        return _fastest(self.search.trials)


def load_for_search(
    path: Path,
    data: Path | None = None,
    assignments: Sequence[str] = (),
    allowed: Sequence[str] = (),
) -> Recipe:
    """Read a recipe whose candidates are to be searched; as `load_recipe`.

    Raises:
        UserError: what is wrong with it; or it is of a cascade.
    """
    loaded = load_any(path, data, assignments, allowed).asked
    if not isinstance(loaded, Recipe):
        raise UserError(
            f"{path} is of several networks, one behind the other: search those of each stage by "
            "its own recipe, then run this one, which finds the best of their combinations."
        )
    return loaded


def search_recipe(
    recipe: Recipe,
    budget: Budget,
    within_s: float,
    out: Path,
    progress_of: Callable[[Callable[..., None]], Progress],
    say: Callable[[str], None],
    command: str,
    allowed: Sequence[str] = (),
    confirm_with: Path | None = None,
    executor: Executor | None = None,
) -> Found:
    """Try a recipe's candidates until one meets the budget, as surely as the images allow.

    What was done before is not done again, and its time is counted.

    Args:
        within_s: for all of it.
        out: gets `runs/`.
        progress_of: makes what shows how far it is, of what is to be told of each epoch.
        say: is told that another search is waited for, and where one is stopped by a key.
        command: reproduces it.
        confirm_with: labelled images of the user's own that judge the last picks, too.
        executor: computes the stages; None: this process. Its store has the journal, too.

    Raises:
        UserError: no candidate can be made, or the teacher not in time; the target cannot be met,
            or the teacher meets it; the folder is another search's, or one works in it.
    """
    refuse_other_runtime(budget, recipe)
    with alone_on_machine("search", say):
        began = monotonic()
        folder = out / RUNS / recipe.name
        journal = Journal(
            folder / JOURNAL,
            in_order(recipe),
            recipe.seed,
            _asked(recipe, budget, allowed),
            executor.shared if executor else None,
        )
        own = OwnTime(journal, monotonic, began, (1 - LAST) * within_s)
        lab = StageLab(recipe, out, progress_of, command, allowed, own.is_up_after_epoch, executor)
        with alone(out, lab.progress), own.kept():
            images = lab.images()
            parts = draw_parts(images.labels, recipe.search.keep, recipe.seed)
            said = list(about_images(budget, recipe, len(parts.searched), len(parts.kept)))
            for sentence in said:
                lab.progress.note(sentence)
            if confirm_with is not None:
                check_images(confirm_with, images.spec or lab.teacher_file(), recipe)
            if is_bounded(budget):
                refuse_beyond(budget, _ceilings(lab, images, recipe, journal, executor, allowed))
            measured = lab.teacher()
            teacher = on_part(measured, parts.searched, SEARCHED)
            refuse_met(choose(teacher, budget))
            judged = Judged(recipe, budget, teacher, parts.searched, lab, folder / ROWS)
            sure = budget.confidence or SURE
            could = allowed_by(len(parts.searched), budget, recipe)
            outlook = Outlook(judged, journal, own, within_s, sure, could)
            trials = Trials(recipe, budget, journal, judged, lab, own, outlook, lab.progress.note)
            with _told_when_stopped(outlook, say):
                ended = trials.run()
                lab.progress.note(ended)
                own.limit_s = within_s
                last = _prove(judged, lab, measured, parts, confirm_with, out)
            trials.keep_pick(last.choice.picked)
    search = Search(
        asked=str(budget),
        within_s=within_s,
        spent_s=own.spent_s,
        overhead_s=journal.noted(OVERHEAD, 0.0),
        ended=ended,
        trials=journal.trials(),
        picks=trials.picks(),
        proofs=last.proofs,
        said=said,
        searched=last.searched,
    )
    picked, pick = last.choice.picked, None
    if picked is not None and picked.role != "teacher":  # timed again, it may meet the budget
        pick = _pick(recipe, budget, last.chains, picked.candidate)
    return Found(search, last.kept, pick, last.choice)


@dataclass(frozen=True)
class _Last:
    """The last picks, timed together as the recipe asks."""

    chains: dict[str, Any]  # by the names of their rows
    searched: list[Result]
    kept: list[Result]
    proofs: list[Proof]
    choice: Choice  # anew, of what was timed together, by the searched images


def _prove(
    judged: Judged,
    lab: StageLab,
    teacher: Sequence[Result],
    parts: Parts,
    confirm_with: Path | None,
    out: Path,
) -> _Last:
    """Measure the last picks as the recipe asks, choose among them, and judge them by images that
    no decision was made by.

    Args:
        teacher: its rows by all validation images, which are all there is where nothing came to
            its end.

    Raises:
        UserError: they cannot be made, or not in time.
    """
    known = judged.chains()
    chains = {row.candidate: known[row.candidate] for row in last_picks(judged.choice())}
    rows = lab.together(chains) if chains else teacher
    searched, kept = on_part(rows, parts.searched, SEARCHED), on_part(rows, parts.kept, KEPT)
    choice = choose(searched, judged.budget)
    proven = [*proofs(searched, kept, list(chains))]
    if confirm_with is not None:
        proven += proofs_with(confirm_with, searched, list(chains), out, judged.recipe)
    return _Last(chains, searched, kept, proven, choice)


@contextmanager
def _told_when_stopped(outlook: Outlook, say: Callable[[str], None]) -> Iterator[None]:
    """Say what the pick is where a key stops the search."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"So far: {outlook.line()} With --within 1s the same command tries nothing more, "
            "measures this and writes the report."
        )
        raise


def _lost(drop: Interval | None) -> str:
    return f"{units.points_interval(drop)} points lost"


def _asked(recipe: Recipe, budget: Budget, allowed: Sequence[str]) -> str:
    """Return in digits what a search is of; only its time may be another the next time.

    Images, weights and builders are known by what is in them, too.

    Raises:
        UserError: one is not there.
    """
    said = [recipe.model_dump_json(exclude={"budget", "description"}), repr(budget)]
    said.append(plan_teacher(recipe, allowed).key)
    named = dict.fromkeys((x.builder, x.weights) for _, x in students_of(recipe))
    for builder, weights in named:
        said.append(identity(builder, allowed))
        if weights is not None and is_file(weights):
            said.append(fingerprint(Path(weights)))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def _ceilings(
    lab: StageLab,
    images: Validation,
    recipe: Recipe,
    journal: Journal,
    executor: Executor | None,
    allowed: Sequence[str],
) -> dict[str, Ceiling]:
    """Return what no network at all takes, by runtime: where it can be, before the teacher is
    trained."""
    noted: dict[str, Any] | None = journal.noted(CEILINGS)
    if noted is not None:
        return {runtime: Ceiling.model_validate(each) for runtime, each in noted.items()}
    if images.spec is None or executor is not None or lab.teacher_is_made():
        file = lab.teacher_file()
    else:
        file = lab.untrained_teacher(images.spec, journal.path.with_name(UNTRAINED))
    threads = recipe.measure.threads or usable_threads()
    found = ceilings(file, recipe.measure.runtimes, threads, allowed)
    journal.note(CEILINGS, {runtime: each.model_dump() for runtime, each in found.items()})
    return found


def _fastest(trials: Sequence[Trial]) -> str:
    """Return what the fastest was that was seen, where nothing was trained to its end, and why."""
    speedups = {
        trial.candidate: piece.speedup
        for trial in trials
        for piece in trial.pieces
        if piece.speedup is not None
    }
    reasons = " ".join(sorted({trial.why for trial in trials if trial.why}))
    if not speedups:
        return reasons or "The time was up before anything was tried: give more --within."
    fastest = max(speedups, key=lambda each: speedups[each])
    return (
        f"{reasons} The fastest seen is {fastest}, untrained "
        f"{units.significant(speedups[fastest])} times as fast as the teacher: ask for less, or "
        "add smaller candidates to the recipe."
    )


def _pick(recipe: Recipe, budget: Budget, chains: dict[str, Any], candidate: str) -> Recipe:
    """Return a plain recipe that makes the pick, and what it learns from."""
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-pick",
            "description": f"The pick of a search that asked for {budget}",
            "candidates": with_teachers({candidate: chains[candidate]}, recipe),
            "budget": _as_written(budget),
        }
    )


def _as_written(budget: Budget) -> BudgetSettings | None:
    """Return the budget as recipes write it; None where they cannot: they ask for both a speedup
    and a drop."""
    if budget.speedup is None or budget.max_accuracy_drop is None:
        return None
    return BudgetSettings(
        speedup=budget.speedup,
        max_accuracy_drop=budget.max_accuracy_drop,
        latency_ms=None if budget.latency_s is None else 1e3 * budget.latency_s,
        min_accuracy=budget.min_accuracy,
        max_bytes=None if budget.max_bytes is None else int(budget.max_bytes),
        max_memory=None if budget.max_memory_bytes is None else int(budget.max_memory_bytes),
        runtime=budget.runtime,
    )
