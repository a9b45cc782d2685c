"""Rows against the bounds of a budget: who meets them, how probably, and what to relax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import reduce
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.analysis.budget import CONFIDENCE, RUNTIME, Budget, Constraint
from compress.analysis.explain import name
from compress.results.schema import Result

if TYPE_CHECKING:
    from compress.analysis.uncertainty import Draws


@dataclass(frozen=True)
class Relaxation:
    """The smallest change of one bound alone that lets `row` in."""

    option: str
    typed: str  # what to give the option
    budget: Budget  # with this constraint relaxed: `row` meets it
    row: Result

    @property
    def text(self) -> str:
        return f"{self.option} {self.typed} alone would let in {name(self.row)}."


class Feasibility:
    """Which rows meet which bounds: by their numbers as measured, or in each of many joint draws.

    Arrays are (draws, rows). What is measured, and what is known exactly, is one draw.
    """

    def __init__(
        self,
        rows: Sequence[Result],
        budget: Budget,
        draws: Draws | None = None,
        columns: Sequence[int] = (),
    ) -> None:
        """Judges `rows`, most preferred first; `columns` are theirs in the draws."""
        self.rows, self.budget = rows, budget
        self._values: dict[str, np.ndarray] = {}
        self._met: dict[str, np.ndarray] = {}
        for constraint, limit in budget.limits():
            if draws is not None and constraint.drawn is not None:
                values = getattr(draws, constraint.drawn)[:, list(columns)]
            else:
                values = np.array(
                    [[constraint.value(row) for row in rows]], dtype=float
                )  # None: nan
            self._values[constraint.option] = values
            self._met[constraint.option] = (
                values >= limit if constraint.at_least else values <= limit
            )
        if budget.runtime:
            self._met[RUNTIME] = np.array([[x.artifact.runtime == budget.runtime for x in rows]])
        self._draws = max(len(met) for met in self._met.values())
        # In so many of them a row must meet the bounds. (A fraction: 0.07 * 100 is above 7.)
        self._needed = ceil(Fraction(str(budget.confidence or 1)) * self._draws)

    def let_in(self) -> list[bool]:
        """Whether each row meets the budget."""
        return [bool(x) for x in self._together().sum(axis=0) >= self._needed]

    def probabilities(self) -> list[float]:
        """Of meeting all bounds, for each row."""
        return [float(x) for x in self._together().mean(axis=0)]

    def chances(self, row: int) -> list[tuple[Constraint, float]]:
        """For one row, the probability of meeting each bound on what is uncertain."""
        return [
            (constraint, float(self._met[constraint.option][:, row].mean()))
            for constraint, _ in self.budget.limits()
            if constraint.drawn is not None
        ]

    def relaxations(self) -> list[Relaxation]:
        """For each bound that can be relaxed alone, how far, and which candidate that lets in."""
        found = [self._relaxed(constraint) for constraint, _ in self.budget.limits()]
        if self.budget.runtime:
            found.append(self._in_another_runtime())
        if self.budget.confidence:
            found.append(self._less_certain())
        return [x for x in found if x is not None]

    def _together(self, but: str = "") -> np.ndarray:
        """bool (draws, rows): all bounds are met, but for one that is left out."""
        met = [met for option, met in self._met.items() if option != but]
        everywhere = np.ones((self._draws, len(self.rows)), dtype=bool)
        return reduce(np.logical_and, met, everywhere)

    def _relaxed(self, constraint: Constraint) -> Relaxation | None:
        values = self._values[constraint.option]
        usable = self._together(but=constraint.option) & ~np.isnan(values)
        sign = 1 if constraint.at_least else -1
        # In draws where another bound is missed, no limit helps.
        reached = np.sort(np.where(usable, sign * values, -np.inf), axis=0)[-self._needed]
        row = self._best(reached)
        if row is None:
            return None
        # Four digits, away from the row, so that the number as printed does let it in.
        rounding = ROUND_FLOOR if constraint.at_least else ROUND_CEILING
        exact = Decimal(repr(float(sign * reached[row]))).scaleb(constraint.decimals)
        typed = Context(prec=4, rounding=rounding).create_decimal(exact).normalize()
        limit: dict[str, Any] = {constraint.field: float(typed.scaleb(-constraint.decimals))}
        relaxed = replace(self.budget, **limit)
        return Relaxation(constraint.option, f"{typed:f}{constraint.unit}", relaxed, self.rows[row])

    def _in_another_runtime(self) -> Relaxation | None:
        enough = self._together(but=RUNTIME).sum(axis=0) >= self._needed
        row = self._best(np.where(enough, 1, -np.inf))
        if row is None:
            return None
        runtime = self.rows[row].artifact.runtime
        return Relaxation(RUNTIME, runtime, replace(self.budget, runtime=runtime), self.rows[row])

    def _less_certain(self) -> Relaxation | None:
        probabilities = self._together().mean(axis=0)
        row = self._best(np.where(probabilities >= 0.5, probabilities, -np.inf))
        if row is None:
            return None
        exact = Decimal(repr(float(probabilities[row])))
        typed = Context(prec=2, rounding=ROUND_FLOOR).create_decimal(exact)
        relaxed = replace(self.budget, confidence=float(typed))
        return Relaxation(CONFIDENCE, f"{typed:f}", relaxed, self.rows[row])

    def _best(self, worth: np.ndarray) -> int | None:
        """The candidate of the largest worth, the most preferred of equals; -inf is none."""
        candidates = [i for i, row in enumerate(self.rows) if row.role != "teacher"]
        best = max(candidates, key=lambda i: worth[i], default=None)
        return best if best is not None and isfinite(worth[best]) else None
