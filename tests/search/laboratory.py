"""A lab whose clock is not the real one: recorded times and accuracies, and a kill now and then."""

import random
from dataclasses import dataclass, field

from compress.recipe.schema import Recipe
from compress.results.schema import Result
from compress.search.lab import TimeUp, Timing
from compress.search.schedule import Rung
from compress.utils.errors import UserError
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
    failing: tuple[str, ...] = ()
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
            raise UserError(f"{candidate} cannot be made here.")
        if self.time_is_up:
            raise TimeUp
        self._work(self.seconds_an_epoch * max(1, rung.new_epochs))
        self.done.append((candidate, rung.epochs))
        final = self._of(candidate, self.accuracies)
        top1 = final - 0.2 / max(1, rung.epochs)
        own = result(
            name,
            top1=top1,
            speedup=self._of(candidate, self.speedups),
            latency_s=0.04 / self._of(candidate, self.speedups),
            images=IMAGES,
            correct=right(top1),
            run=name,
        )
        return [*self.teacher(name), own]

    def _work(self, seconds: float) -> None:
        if self.kills and self.kills.random() < 0.5:
            raise Killed
        self.now_s += seconds

    def _of(self, candidate: str, table: dict[str, float]) -> float:
        return table.get(candidate, table[self.recipe.point(candidate).family])


def right(share: float) -> str:
    """Which images are right: the same order for all, so that better ones hold the others."""
    order = random.Random(0).sample(range(IMAGES), IMAGES)
    known = set(order[: round(share * IMAGES)])
    return "".join("1" if i in known else "0" for i in range(IMAGES))
