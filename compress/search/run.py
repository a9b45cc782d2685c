"""`compress search`: the teacher, trials, the last picks and their proof. It reads as that."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice, choose, fits
from compress.analysis.explain import SURE, name
from compress.cascade.recipe import load_any
from compress.measure.machine import usable_threads
from compress.methods import discover
from compress.metrics.sample_size import highest_confidence, images_needed
from compress.models.builders import identity
from compress.models.weight_sources import fingerprint, is_file
from compress.recipe.load import students_of
from compress.recipe.schema import GridPoint, Recipe, chosen
from compress.results.schema import Result
from compress.results.search import Search
from compress.search.ceiling import ceilings
from compress.search.journal import Journal
from compress.search.lab import StageLab, with_teachers
from compress.search.parts import draw_parts, on_part
from compress.search.proof import check_images, last_picks, proofs, proofs_with
from compress.search.schedule import trains
from compress.search.trials import OVERHEAD, SEARCHED, SPENT, Trials
from compress.tasks.differences import paired_spread
from compress.utils import units
from compress.utils.alone import alone_on_machine
from compress.utils.errors import UserError
from compress.utils.interval import Interval
from compress.utils.progress import Progress
from compress.workflow.executors.executor import Executor
from compress.workflow.plan import plan_teacher
from compress.workflow.run import RUNS, alone
from compress.workflow.too_few_images import USUAL

JOURNAL, ROWS = "search.journal", "trials"
KEPT = "kept"
CEILINGS = "ceilings"
LAST = 0.1  # share of the time for the last picks


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    search: Search
    rows: list[Result]  # of the last picks and the teacher, by the kept images
    pick: Recipe | None  # that makes the pick
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
        if self.choice.picked is None:
            return " ".join(self.choice.hints())
        return f"{name(self.choice.picked)} met it by the images that it was chosen by alone."


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
        say: is told that another search is waited for.
        command: reproduces it.
        confirm_with: labelled images of the user's own that judge the last picks, too.
        executor: computes the stages; None: this process. Its store has the journal, too.

    Raises:
        UserError: no candidate can be made, or fast enough; the time was up before anything was
            tried; the folder is another search's, or one works in it.
    """
    if budget.runtime not in (None, *recipe.measure.runtimes):
        raise UserError(
            f"The search is to end in {budget.runtime}, and the recipe measures in "
            f"{' and '.join(recipe.measure.runtimes)}: add it to measure.runtimes "
            f"(--set measure.runtimes='[{budget.runtime}]')."
        )
    with alone_on_machine("search", say):
        began = time.monotonic()
        folder = out / RUNS / recipe.name
        journal = Journal(
            folder / JOURNAL,
            _in_order(recipe),
            recipe.seed,
            _asked(recipe, budget, allowed),
            executor.shared if executor else None,
        )
        begun_s = began - journal.noted(SPENT, 0.0)

        def spent_s() -> float:
            return time.monotonic() - begun_s

        lab = StageLab(
            recipe, out, progress_of, command, allowed, lambda: spent_s() > within_s, executor
        )
        with alone(out, lab.progress):
            known = lab.teacher()
            journal.note(SPENT, spent_s())
            parts = draw_parts(known.labels, recipe.search.keep, recipe.seed)
            teacher = on_part(known.teacher, parts.searched, SEARCHED)
            _refuse_met(choose(teacher, budget))
            if confirm_with is not None:
                check_images(confirm_with, out / teacher[0].artifact.path, recipe)
            said = _images(budget, len(parts.searched), len(parts.kept))
            for sentence in said:
                lab.progress.note(sentence)
            _refuse_beyond(budget, known.teacher, recipe, journal, out, allowed)
            trials = Trials(
                recipe=recipe,
                budget=budget,
                within_s=within_s,
                reserved_s=LAST * within_s,
                teacher=teacher,
                searched=parts.searched,
                journal=journal,
                lab=lab,
                clock=time.monotonic,
                begun_s=begun_s,
                say=lab.progress.note,
                folder=folder / ROWS,
                sure=partial(_sure, budget, teacher),
            )
            ended = trials.run()
            lab.progress.note(ended)
            choice = trials.choice()
            _refuse_met(choice)
            chains = _last(trials)
            rows = lab.together(chains)
            searched = on_part(rows, parts.searched, SEARCHED)
            kept = on_part(rows, parts.kept, KEPT)
            proven = [*proofs(searched, kept, list(chains))]
            if confirm_with is not None:
                proven += proofs_with(confirm_with, searched, list(chains), out, recipe)
        journal.note(SPENT, spent_s())
    search = Search(
        asked=str(budget),
        within_s=within_s,
        spent_s=spent_s(),
        overhead_s=journal.noted(OVERHEAD, 0.0),
        ended=ended,
        trials=journal.trials(),
        picks=trials.picks(),
        proofs=proven,
        said=said,
    )
    picked = choice.picked
    pick = None if picked is None else _pick(recipe, budget, chains, picked.candidate)
    return Found(search, kept, pick, choice)


def _lost(drop: Interval | None) -> str:
    return f"{units.points_interval(drop)} points lost"


def _in_order(recipe: Recipe) -> dict[str, GridPoint]:
    """Return the candidates, those first that an experienced engineer would try first.

    What needs no training comes before what does, what keeps the teacher's weights before other
    networks, and otherwise the recipe's order counts.
    """

    def rank(candidate: str) -> tuple[bool, bool]:
        chain = recipe.candidates[candidate]
        kind, settings = chosen(chain[0])
        return trains(chain), discover()[kind].student(settings) is not None

    return {each: recipe.point(each) for each in sorted(recipe.candidates, key=rank)}


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


def _images(budget: Budget, searched: int, kept: int) -> list[str]:
    """Say what the images allow to be shown."""
    said = [
        f"Decisions are made by {searched} of the validation images; the other {kept} judge the "
        "last picks, once."
    ]
    lost = budget.max_accuracy_drop
    if lost and (allowed := highest_confidence(lost, USUAL, searched)) < SURE:
        needed = images_needed(lost, USUAL)
        said.append(
            f"With {searched} images it can be shown with at most {units.probability(allowed)} "
            f"probability that a candidate as accurate as the teacher loses at most "
            f"{units.points_typed(lost)}, where the two disagree on {100 * USUAL:g} % of them; "
            f"about {units.at_least(needed or 0)} images would allow {100 * SURE:g} %."
        )
    return said


def _refuse_beyond(
    budget: Budget,
    teacher: Sequence[Result],
    recipe: Recipe,
    journal: Journal,
    out: Path,
    allowed: Sequence[str],
) -> None:
    """Refuse a speedup that not even no network at all would reach.

    Raises:
        UserError: says what can be had at most.
    """
    if budget.speedup is None:
        return
    found: dict[str, float] | None = journal.noted(CEILINGS)
    if found is None:
        found = ceilings(teacher, out, recipe.measure.threads or usable_threads(), allowed)
        journal.note(CEILINGS, found)
    runtime = budget.runtime or max(found, key=lambda each: found[each])
    if found[runtime] < budget.speedup:
        raise UserError(
            f"--speedup {budget.speedup:g}x cannot be met: with no network at all an image takes "
            f"{runtime} {units.significant(found[runtime])} times less than the teacher. Ask for "
            "less, or for a larger batch or another runtime where the network is not all."
        )


def _refuse_met(choice: Choice) -> None:
    """Refuse a target that the teacher itself meets: nothing would have to be searched.

    Raises:
        UserError: says what could be asked for.
    """
    if choice.picked is not None and choice.picked.role == "teacher":
        raise UserError(
            f"{name(choice.picked)} meets this as it is: {choice.why} Ask for a --speedup, or for "
            "less time, bytes or memory than it takes."
        )


def _sure(budget: Budget, teacher: Sequence[Result], choice: Choice) -> float:
    """Return the probability with which a budget can be shown to be met by these images."""
    wanted = budget.confidence or SURE
    row, lost = choice.picked, budget.max_accuracy_drop
    own = next((x for x in teacher if row is not None and x.key == row.reference), None)
    if row is None or lost is None or own is None:
        return wanted
    spread = paired_spread(own.accuracy, row.accuracy)
    return min(wanted, highest_confidence(lost, spread, row.accuracy.images))


def _last(trials: Trials) -> dict[str, Any]:
    """Return the chains of the last picks, by the names of their rows.

    Raises:
        UserError: nothing was tried to its end.
    """
    chains: dict[str, Any] = {}
    known = trials.chains()
    for row in last_picks(trials.choice()):
        chains[row.candidate] = known[row.candidate]
    if not chains:
        reasons = {trial.why for trial in trials.journal.trials() if trial.why}
        raise UserError(
            "No candidate was trained and measured: "
            + " ".join(sorted(reasons) or ["the time was up before the first. Give more --within."])
        )
    return chains


def _pick(recipe: Recipe, budget: Budget, chains: dict[str, Any], candidate: str) -> Recipe:
    """Return a plain recipe that makes the pick, and what it learns from."""
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-pick",
            "description": f"The pick of a search that asked for {budget}",
            "candidates": with_teachers({candidate: chains[candidate]}, recipe),
        }
    )
