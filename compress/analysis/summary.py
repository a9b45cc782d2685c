"""What a table of rows says as a whole, computed once: every format of a report shows the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice, choose, fits
from compress.analysis.pareto import front_rows
from compress.results.schema import Result, RowKey


@dataclass(frozen=True)
class Summary:
    """Comparable rows, and what follows from all of them together."""

    rows: list[Result]  # in the order of the results
    fastest_first: list[Result]
    budget: Budget | None
    choice: Choice | None  # None where nothing was asked for
    fitting: list[Result]  # those that meet the budget by their numbers as measured
    front: list[Result]  # fastest first
    front_probability: dict[RowKey, float | None]  # None for what does not compete
    alike: list[list[Result]]  # no two of a group can be told apart


def summarise(rows: Sequence[Result], budget: Budget | None = None) -> Summary:
    """Return what the rows say together, and which of them the budget asks for."""
    from compress.analysis.uncertainty import (  # here: a program that starts needs no numpy
        alike,
        draw,
        front_probability,
    )

    ordered = sorted(rows, key=lambda row: (row.latency_s, row.key))
    draws = draw(ordered)
    competing = [i for i, row in enumerate(ordered) if row.competes]
    chances = front_probability(draws, [row.competes for row in ordered])
    return Summary(
        rows=list(rows),
        fastest_first=ordered,
        budget=budget,
        choice=choose(ordered, budget, draws) if budget else None,
        fitting=[row for row in ordered if budget and fits(row, budget)],
        front=front_rows(ordered),
        front_probability={
            row.key: float(chance) if row.competes else None
            for row, chance in zip(ordered, chances, strict=True)
        },
        alike=[[ordered[i] for i in group] for group in alike(draws, competing)],
    )
