"""A lab whose clock is not the real one: recorded times and accuracies, and a kill now and then."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compress.analysis.budget import Budget
from compress.analysis.explain import SURE
from compress.recipe.schema import Recipe
from compress.results.schema import Result
from compress.search.journal import Journal
from compress.search.judged import SEARCHED, Judged
from compress.search.lab import TimeUp, Timing
from compress.search.order import in_order
from compress.search.outlook import Outlook
from compress.search.own_time import OwnTime
from compress.search.parts import on_part
from compress.search.schedule import Rung
from compress.search.trials import Trials
from compress.utils.errors import UserError
from compress.workflow.shared import Shared
from tests.result_factory import result

IMAGES = 400
TEACHER = 0.8


class Killed(BaseException):
    """What a process that is killed does: nothing any more."""


@dataclass
class Recorded:
    """Answers from a table: how fast a family is, and how good with how many epochs."""

    recipe: Recipe
    speedups: dict[str, float]  # by family
    accuracies: dict[str, float]  # with all epochs
    seconds_an_epoch: float = 10.0
    seconds_of: dict[str, float] = field(default_factory=dict)  # by family, where they are others
    fixed_s: float = 0.0  # of each rung, whatever its epochs
    failing: tuple[str, ...] = ()
    failing_s: float = 0.0  # that a failure takes
    noisy: tuple[str, ...] = ()  # families that are right on other images than the others
    kills: random.Random | None = None
    time_is_up: bool = False
    now_s: float = 0.0
    done: list[tuple[str, int]] = field(default_factory=list)  # candidate, epochs
    timings: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    def teacher(self, run: str = "teacher") -> list[Result]:
        told = {"top1": TEACHER, "correct": right(TEACHER), "images": IMAGES, "run": run}
        return [result("teacher", role="teacher", latency_s=0.04, **told)]

    def timed(self, candidate: str) -> list[Timing]:
        self._work(5.0)
        self.timings.append(candidate)
        speedup = self._of(candidate, self.speedups)
        return [Timing("onnxruntime", speedup, 0.04 / speedup, 5_000_000, 90_000_000)]

    def trained(self, candidate: str, rung: Rung, name: str) -> list[Result]:
        if candidate in self.failing:
            self.now_s += self.failing_s
            raise UserError(f"{candidate} cannot be made here.")
        if self.time_is_up:
            raise TimeUp
        family = self.recipe.point(candidate).family
        an_epoch = self.seconds_of.get(family, self.seconds_an_epoch)
        self._work(self.fixed_s + an_epoch * max(1, rung.new_epochs))
        self.done.append((candidate, rung.epochs))
        final = self._of(candidate, self.accuracies)
        top1 = final - 0.2 / max(1, rung.epochs)
        own = result(
            name,
            top1=top1,
            speedup=self._of(candidate, self.speedups),
            latency_s=0.04 / self._of(candidate, self.speedups),
            images=IMAGES,
            correct=right(top1, seed=int(family in self.noisy)),
            run=name,
        )
        return [*self.teacher(name), own]

    def _work(self, seconds: float) -> None:
        if self.kills and self.kills.random() < 0.5:
            raise Killed
        self.now_s += seconds

    def _of(self, candidate: str, table: dict[str, float]) -> float:
        return table.get(candidate, table[self.recipe.point(candidate).family])


def right(share: float, seed: int = 0) -> str:
    """Which images are right: the same order for all, so that better ones hold the others."""
    order = random.Random(seed).sample(range(IMAGES), IMAGES)
    known = set(order[: round(share * IMAGES)])
    return "".join("1" if i in known else "0" for i in range(IMAGES))


SEARCHED_ONES = np.arange(0, IMAGES, 2)
BUDGET = Budget(speedup=5, max_accuracy_drop=0.02)
TRAIN = {"epochs": 9, "batch_size": 8}


def student(**changed: Any) -> list[dict[str, Any]]:
    settings = {
        "student": "students.shufflenet:shufflenet_v2_x0_5",
        "image_size": 32,
        "train": TRAIN,
        **changed,
    }
    return [{"distill": settings}]


SPEEDUPS = {"small": 12.0, "slow": 3.0, "int8": 2.0, "pruned": 6.0}
ACCURACIES = {"small": 0.7, "slow": 0.8, "int8": 0.8, "pruned": 0.74} | {
    f"small-lr-{lr:g}": 0.7 + 0.005 * i for i, lr in enumerate((1e-3, 2e-3, 3e-3, 4e-3))
}


def lab(recipe: Recipe, **changed: Any) -> Recorded:
    return Recorded(recipe, SPEEDUPS, ACCURACIES, **changed)


def trials(
    recipe: Recipe,
    recorded: Recorded,
    folder: Path,
    within_s: float = 1e6,
    budget: Budget = BUDGET,
    said: list[str] | None = None,
    allowed: float = 1.0,
    shared: Shared | None = None,
) -> Trials:
    journal = Journal(folder / "journal", in_order(recipe), 0, "the same", shared)
    own = OwnTime(journal, recorded.clock, recorded.clock(), within_s)
    teacher = on_part(recorded.teacher(), SEARCHED_ONES, SEARCHED)
    judged = Judged(recipe, budget, teacher, SEARCHED_ONES, recorded, folder / "rows")
    outlook = Outlook(judged, journal, own, within_s, budget.confidence or SURE, allowed)
    say = (said if said is not None else []).append
    return Trials(recipe, budget, journal, judged, recorded, own, outlook, say)
