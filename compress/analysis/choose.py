"""Picks the model that a budget asks for, and says why, or what to relax when nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING

from compress.analysis import explain as say
from compress.analysis.budget import Budget, Constraint
from compress.analysis.pareto import deployed, front_rows
from compress.results.schema import Result, RowKey

if TYPE_CHECKING:
    from compress.analysis.feasibility import Feasibility, Relaxation
    from compress.analysis.uncertainty import Draws


@dataclass(frozen=True)
class Choice:
    """The answer to a budget; `picked` is None when nothing fits."""

    budget: Budget
    picked: Result | None = None
    probability: float | None = None  # that the pick meets all bounds; None: it is certain
    why: str = ""
    why_in_short: str = ""  # beside a table of the numbers
    runner_up: Result | None = None
    runner_up_lost: str = ""
    next_faster: Result | None = None  # on the front, as is the next
    next_more_accurate: Result | None = None
    nearest_miss: Result | None = None  # of the candidates that do not meet the budget
    nearest_misses: str = ""  # what it misses
    doubt: str = ""  # the weightiest of the warnings, in short
    warnings: list[str] = field(default_factory=list)  # of the pick; else of the nearest miss
    misses: list[str] = field(default_factory=list)  # for each that does not fit or was dropped
    relaxations: list[Relaxation] = field(default_factory=list)  # when nothing fits

    @property
    def next_steps(self) -> list[str]:
        """The price of the next faster row, and of the next more accurate one."""
        if self.picked is None:
            return []
        return say.next_steps(self.picked, self.next_faster, self.next_more_accurate)

    def hints(self) -> list[str]:
        """What to relax, what is no use, and what more images are; empty when something fits."""
        if self.picked:
            return []
        helpful = [x.option for x in self.relaxations]
        useless = [option for option in self.budget.options() if option not in helpful]
        said = f"{' or '.join(useless)} alone lets nothing in: no candidate meets the other bounds."
        relaxed = [x.text for x in self.relaxations]
        return [*relaxed, *([said] if useless else []), *self.warnings]


def choose(rows: Sequence[Result], budget: Budget, draws: Draws | None = None) -> Choice:
    """The most accurate of the deployed rows that meet all bounds; the fastest of equals.

    Rows in torch and dropped rows do not compete.

    Args:
        rows: comparable ones (`compress.results.merge`), with the teachers.
        draws: of these rows, where they are known already.
    """
    from compress.analysis.feasibility import (
        Feasibility,  # here: a program that starts needs no numpy
    )
    from compress.analysis.uncertainty import draw

    offers = sorted(deployed(rows), key=_preference)
    places = {id(row): i for i, row in enumerate(rows)}
    drawn = Feasibility(offers, budget, draws or draw(rows), [places[id(row)] for row in offers])
    judged = drawn if budget.confidence else Feasibility(offers, budget)
    let_in, probabilities = judged.let_in(), drawn.probabilities()
    missing = [
        (row, probability)
        for row, fitting, probability in zip(offers, let_in, probabilities, strict=True)
        if not fitting and row.role != "teacher" and _in_its_runtime(row, budget)
    ]
    nearest = _nearest(missing, budget)
    nothing = Choice(
        budget,
        nearest_miss=nearest and nearest[0],
        nearest_misses=say.miss(nearest[0], budget, nearest[1]) if nearest else "",
        misses=_misses(rows, missing, budget),
    )
    if not any(let_in):
        return _mended(nothing, rows, judged)
    first = let_in.index(True)
    chances = drawn.chances(first)
    probability = probabilities[first] if chances else None
    fitting = [row for row, fits_it in zip(offers, let_in, strict=True) if fits_it]
    few = _too_few_images(fitting[0], rows, budget, chances, say.SURE)
    uncertain = say.uncertain(chances, few)
    return _beside(replace(nothing, probability=probability), fitting, offers, uncertain)


def _mended(nothing: Choice, rows: Sequence[Result], judged: Feasibility) -> Choice:
    """Return the choice of nothing with what would let something in: a bound relaxed, or more
    images where the nearest row meets all bounds, but not surely enough."""
    row, budget, few = nothing.nearest_miss, nothing.budget, ""
    if row is not None and budget.confidence and fits(row, budget):
        chances = judged.chances(judged.rows.index(row))
        few = _too_few_images(row, rows, budget, chances, budget.confidence)
    warnings = [f"{say.name(row)}: {few}"] if row is not None and few else []
    return replace(nothing, warnings=warnings, relaxations=judged.relaxations())


def _too_few_images(
    row: Result,
    rows: Sequence[Result],
    budget: Budget,
    chances: Sequence[tuple[Constraint, float]],
    confidence: float,
) -> str:
    """Say how many images the row's drop needs to be within its bound as surely; else nothing.

    Args:
        chances: that the row meets each bound.
    """
    chance = next((x for constraint, x in chances if constraint.field == say.DROP), 1.0)
    teacher = next((x for x in rows if x.key == row.reference), None)
    if chance >= confidence or teacher is None or budget.max_accuracy_drop is None:
        return ""
    return say.too_few_images(row, teacher, budget.max_accuracy_drop, confidence)


def _beside(
    choice: Choice, fitting: list[Result], offers: Sequence[Result], uncertain: Sequence[str]
) -> Choice:
    """Return the choice with the pick, the first of the fitting, and what stands beside it.

    Args:
        uncertain: the bounds that the pick may not meet.
    """
    best, *others = fitting
    front = front_rows([row for row in offers if _in_its_runtime(row, choice.budget)])
    faster = [x for x in front if x.latency_s < best.latency_s]
    better = [x for x in front if x.accuracy.top1.value > best.accuracy.top1.value]
    return replace(
        choice,
        picked=best,
        why=say.why(best, choice.probability),
        why_in_short=say.why_in_short(best, choice.probability),
        runner_up=others[0] if others else None,
        runner_up_lost=say.lost(best, others[0]) if others else "",
        next_faster=faster[-1] if faster else None,
        next_more_accurate=better[0] if better else None,
        doubt=say.doubt(best, others, uncertain),
        warnings=[*uncertain, *say.warnings(best, others)],
    )


def _misses(
    rows: Sequence[Result], missing: Sequence[tuple[Result, float]], budget: Budget
) -> list[str]:
    """Return what each that does not fit misses, and why others were dropped."""
    found = [say.miss(row, budget, probability) for row, probability in missing]
    if budget.runtime and not any(x.competes and _in_its_runtime(x, budget) for x in rows):
        found.append(f"no row was measured in {budget.runtime}: add it to measure.runtimes")
    return [*found, *(say.dropped(row) for row in rows if row.dropped is not None)]


def _nearest(
    missing: Sequence[tuple[Result, float]], budget: Budget
) -> tuple[Result, float] | None:
    """Return the row that is least beyond the limits, all added up; where that is nothing, the
    likeliest one; the most preferred of equals. None where no row can be compared."""

    def distance(found: tuple[Result, float]) -> tuple[float, float]:
        row, probability = found
        beyond = sum(
            constraint.excess(constraint.value(row), limit) for constraint, limit in budget.limits()
        )
        return beyond, -probability if budget.confidence else 0.0

    nearest = min(missing, key=distance, default=None)
    return nearest if nearest and isfinite(distance(nearest)[0]) else None


def fits(row: Result, budget: Budget) -> bool:
    """Whether the row competes, and its numbers as measured meet all bounds."""
    if not row.competes or not _in_its_runtime(row, budget):
        return False
    return all(
        constraint.is_met(constraint.value(row), limit) for constraint, limit in budget.limits()
    )


def _in_its_runtime(row: Result, budget: Budget) -> bool:
    return budget.runtime in (None, row.artifact.runtime)


def _preference(row: Result) -> tuple[float, float, RowKey]:
    return (-row.accuracy.top1.value, row.latency_s, row.key)
