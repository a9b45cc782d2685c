"""The rows of all trials by the searched images, and what would be chosen of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice, choose
from compress.recipe.schema import Recipe
from compress.results.file import as_lines, read
from compress.results.merge import merge
from compress.results.schema import Result
from compress.results.search import Trial
from compress.search.lab import Lab
from compress.search.parts import on_part
from compress.search.schedule import Rung, rungs
from compress.utils.files import write_text

SEARCHED = "searched"  # the part of the validation images


@dataclass
class Judged:
    """What was measured of each rung; it lies in a file from then on.

    Attributes:
        teacher: its rows, by the searched images.
        searched: positions, among the validation images, of those that decisions are made by.
        folder: gets the rows of each rung.
    """

    recipe: Recipe
    budget: Budget
    teacher: Sequence[Result]
    searched: np.ndarray
    lab: Lab
    folder: Path
    _rows: dict[tuple[str, int], list[Result]] = field(default_factory=dict)
    _choice: Choice | None = None  # of the rows that there are now, once it was asked for

    def choice(self) -> Choice:
        """Return what would be chosen now."""
        if self._choice is None:
            self._choice = choose(self.rows(), self.budget)
        return self._choice

    def rows(self) -> list[Result]:
        """Return the rows of all trials and the teacher's."""
        return merge([*self.teacher, *(row for rows in self._rows.values() for row in rows)])

    def chains(self) -> dict[str, list[Any]]:
        """Return the chain of every row, by its candidate's name."""
        found = {}
        for candidate, rung in self._rows:
            chain = rungs(self.recipe.candidates[candidate])
            found[_shown(candidate, chain, rung)] = chain[rung].chain
        return found

    def needed(self) -> float:
        """Return the accuracy that the budget asks for, on the searched images."""
        teacher = max(row.accuracy.top1.value for row in self.teacher)
        lost = self.budget.max_accuracy_drop
        return max(self.budget.min_accuracy or 0.0, 0.0 if lost is None else teacher - lost)

    def measure(self, candidate: str, rung: int) -> list[Result]:
        """Have a rung trained and measured; return its rows by the searched images."""
        chain = rungs(self.recipe.candidates[candidate])
        rows = self.lab.trained(candidate, chain[rung], _shown(candidate, chain, rung))
        write_text(self._file(candidate, rung), as_lines(rows))
        return self._hold(candidate, rung, rows)

    def load(self, trials: Sequence[Trial]) -> None:
        """Read what trials before have left; where that was elsewhere, measure it here."""
        for trial in trials:
            for rung in range(sum(piece.trained for piece in trial.pieces)):
                file = self._file(trial.candidate, rung)
                if file.is_file():
                    self._hold(trial.candidate, rung, read(file).rows)
                else:
                    self.measure(trial.candidate, rung)

    def of(self, candidate: str) -> list[Result]:
        """Return the rows of a candidate's last rung that the budget's runtime serves."""
        known = [rung for name, rung in self._rows if name == candidate]
        return [
            row
            for row in (self._rows[candidate, max(known)] if known else ())
            if row.role != "teacher" and self.serves(row.artifact.runtime)
        ]

    def serves(self, runtime: str) -> bool:
        """Return whether the budget lets something run in this."""
        return self.budget.runtime in (None, runtime)

    def is_fast(self, candidate: str) -> bool:
        """Return whether a row of it meets all bounds but those on accuracy."""
        bounds = [(bound, limit) for bound, limit in self.budget.limits() if not bound.share]
        return any(
            all(bound.is_met(bound.value(row), limit) for bound, limit in bounds)
            for row in self.of(candidate)
        )

    def _hold(self, candidate: str, rung: int, rows: Sequence[Result]) -> list[Result]:
        self._choice = None
        self._rows[candidate, rung] = on_part(rows, self.searched, SEARCHED)
        return self._rows[candidate, rung]

    def _file(self, candidate: str, rung: int) -> Path:
        return self.folder / f"{candidate}-{rung}.jsonl"


def _shown(candidate: str, chain: Sequence[Rung], rung: int) -> str:
    """Return what the rows of a rung are called: the last is the candidate."""
    if rung == len(chain) - 1:
        return candidate
    return f"{candidate}-after-{chain[rung].epochs}-epochs"
