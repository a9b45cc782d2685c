"""Picks the model that a budget asks for, and says why, or what to relax when nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compress.analysis import explain as say
from compress.analysis.budget import Budget
from compress.analysis.pareto import deployed, front_rows
from compress.results.schema import Result, RowKey

if TYPE_CHECKING:
    from compress.analysis.feasibility import Relaxation
    from compress.analysis.uncertainty import Draws


@dataclass(frozen=True)
class Choice:
    """The answer to a budget; `picked` is None when nothing fits."""

    budget: Budget
    picked: Result | None = None
    probability: float | None = None  # that the pick meets all bounds; None: it is certain
    why: str = ""
    runner_up: Result | None = None
    runner_up_lost: str = ""
    next_steps: list[str] = field(default_factory=list)  # their price
    warnings: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)  # for each that does not fit or was dropped
    relaxations: list[Relaxation] = field(default_factory=list)  # when nothing fits

    def hints(self) -> list[str]:
        """What to relax, and what is no use; empty when something fits."""
        if self.picked:
            return []
        helpful = [x.option for x in self.relaxations]
        useless = [option for option in self.budget.options() if option not in helpful]
        said = f"{' or '.join(useless)} alone lets nothing in: no candidate meets the other bounds."
        return [*(x.text for x in self.relaxations), *([said] if useless else [])]


def choose(rows: Sequence[Result], budget: Budget, draws: Draws | None = None) -> Choice:
    """The most accurate of the deployed rows that meet all bounds; the fastest of equals.

    Rows in torch and dropped rows do not compete.

    Args:
        rows: comparable ones (`compress.results.merge`), with the teachers.
        draws: of these rows, where they are known already.
    """
    from compress.analysis.feasibility import Judged  # here: a program that starts needs no numpy
    from compress.analysis.uncertainty import draw

    offers = sorted(deployed(rows), key=_preference)
    places = {id(row): i for i, row in enumerate(rows)}
    drawn = Judged(offers, budget, draws or draw(rows), [places[id(row)] for row in offers])
    judged = drawn if budget.confidence else Judged(offers, budget)
    let_in, probabilities = judged.let_in(), drawn.probabilities()
    misses = [
        say.miss(row, budget, probability)
        for row, fitting, probability in zip(offers, let_in, probabilities, strict=True)
        if not fitting and row.role != "teacher" and _in_its_runtime(row, budget)
    ]
    if budget.runtime and not any(_in_its_runtime(row, budget) for row in offers):
        misses.append(f"no row was measured in {budget.runtime}: add it to measure.runtimes")
    misses += [say.dropped(row) for row in rows if row.dropped is not None]
    if not any(let_in):
        return Choice(budget, misses=misses, relaxations=judged.relaxations())
    first = let_in.index(True)
    best = offers[first]
    others = [row for row, fitting in zip(offers, let_in, strict=True) if fitting][1:]
    chances = drawn.chances(first)
    probability = probabilities[first] if chances else None
    front = front_rows([row for row in offers if _in_its_runtime(row, budget)])
    return Choice(
        budget,
        picked=best,
        probability=probability,
        why=say.why(best, probability),
        runner_up=others[0] if others else None,
        runner_up_lost=say.lost(best, others[0]) if others else "",
        next_steps=say.next_steps(best, front),
        warnings=[*say.uncertain(chances), *say.warnings(best, others)],
        misses=misses,
    )


def fits(row: Result, budget: Budget) -> bool:
    """Whether the row competes, and its numbers as measured meet all bounds."""
    if not row.competes or not _in_its_runtime(row, budget):
        return False
    return all(bound.is_met(bound.value(row), limit) for bound, limit in budget.limits())


def _in_its_runtime(row: Result, budget: Budget) -> bool:
    return budget.runtime in (None, row.artifact.runtime)


def _preference(row: Result) -> tuple[float, float, RowKey]:
    return (-row.accuracy.top1.value, row.latency_s, row.key)
