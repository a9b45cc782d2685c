"""What may be asked of a model: one table of constraints, for choosing, hints and messages."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from math import inf, log
from typing import Any

from compress.results.schema import Result
from compress.runtimes import discover
from compress.utils import units
from compress.utils.errors import UserError
from compress.utils.quantities import behind, parse_bytes, parse_seconds, parse_share, parse_times

POINT = 10.0  # one point of accuracy weighs as much as a tenth of time or size
NOT_COMPARED = "not compared with a teacher in its runtime"


@dataclass(frozen=True)
class Constraint:
    """A number that every row has and a budget may limit.

    Args:
        field: of `Budget`.
        value: the row's number, None where it was not measured.
        drawn: its name in the joint draws of `uncertainty`; None: it is known exactly.
        share: whether it is a share of the images, in [0, 1], of which a difference is told;
            of other numbers, which are above 0, the ratio is.
        read: makes the field's number of what people write behind the option.
        decimals, unit: a bare number is printed in a unit that is 10 ** -decimals of the field's.
        asked, missed: templates; `typed` and `measured` fill in numbers with their units.
    """

    field: str
    option: str
    quantity: str
    at_least: bool
    value: Callable[[Result], float | None]
    drawn: str | None
    asked: str
    missed: str
    too: str
    typed: Callable[[float], str]
    measured: Callable[[float], str]
    unknown: str
    example: str
    read: Callable[[Any], float]
    share: bool = False
    decimals: int = 0
    unit: str = ""

    @property
    def argument(self) -> str:
        """The option's name as an argument."""
        return self.option.removeprefix("--").replace("-", "_")

    def is_met(self, value: float | None, limit: float) -> bool:
        """Whether a row with this number is let in: up to the limit itself; unknown, never."""
        return value is not None and (value >= limit if self.at_least else value <= limit)

    def check(self, limit: float) -> None:
        """Refuses a limit that asks for nothing."""
        if not (0 <= limit <= 1 if self.share else 0 < limit < inf):
            domain = "between 0 and 1" if self.share else "above 0"
            raise UserError(
                f"{self.option} {limit * 10**self.decimals:g}{self.unit} is out of range: give "
                f"{self.example}, {domain}."
            )

    def excess(self, value: float | None, limit: float) -> float:
        """Return how far beyond the limit a number is, in one scale for all quantities.

        That is the logarithm of the ratio, about 0.1 for a tenth too slow or too large, and of
        shares 0.1 a percentage point; 0 where the limit is met.
        """
        if value is None:
            return inf
        if self.is_met(value, limit):
            return 0.0
        return POINT * abs(value - limit) if self.share else abs(log(value / limit))

    def miss(self, value: float | None, limit: float) -> str:
        """By how much a row that does not meet the limit misses it."""
        if value is None:
            return self.unknown
        if self.share:
            excess = f"{units.significant(100 * abs(value - limit), 2)} points"
        else:
            excess = f"{units.significant(max(value / limit, limit / value))} times"
        missed = self.missed.format(self.measured(value), self.typed(limit))
        return f"{missed}, {excess} {self.too}"


def _speedup(row: Result) -> float | None:
    if row.role == "teacher":
        return 1.0
    return None if row.speedup is None else row.speedup.ratio.value


def _drop(row: Result) -> float | None:
    if row.role == "teacher":
        return 0.0
    drop = row.accuracy.top1_drop
    return None if drop is None else drop.value


def _megabytes_typed(size: float) -> str:
    return f"{size / 1e6:g} MB"


def _megabytes(size: float) -> str:
    return f"{units.significant(size / 1e6)} MB"


CONSTRAINTS = (
    Constraint(
        *("speedup", "--speedup", "the speedup"),
        at_least=True,
        value=_speedup,
        drawn="speedup",
        asked="at least {} faster than the teacher in the same runtime",
        missed="{} faster where {} are asked for",
        too="too slow",
        typed=lambda x: f"{x:g} times",
        measured=lambda x: f"{units.significant(x)} times",
        unknown=NOT_COMPARED,
        example="how many times faster than the teacher, e.g. 10x",
        read=parse_times,
    ),
    Constraint(
        *("max_accuracy_drop", "--max-accuracy-drop", "the drop"),
        at_least=False,
        value=_drop,
        drawn="drop",
        asked="at most {} of accuracy lost",
        missed="{} of accuracy lost where {} may be",
        too="too many",
        typed=units.points_typed,
        measured=lambda x: f"{units.points(x)} points",
        unknown=NOT_COMPARED,
        example="the share of accuracy that may be lost, 1% or 0.01 for one point",
        read=parse_share,
        share=True,
    ),
    Constraint(
        *("latency_s", "--latency", "the latency"),
        at_least=False,
        value=lambda row: row.latency_s,
        drawn="latency_s",
        asked="at most {} an image",
        missed="{} an image where {} are allowed",
        too="too slow",
        typed=lambda x: f"{1e3 * x:g} ms",
        measured=lambda x: f"{units.ms(x)} ms",
        unknown="not timed",
        example="the time an image may take, e.g. 2.5ms",
        read=parse_seconds,
        decimals=3,
        unit="ms",
    ),
    Constraint(
        *("min_accuracy", "--min-accuracy", "the accuracy"),
        at_least=True,
        value=lambda row: row.accuracy.top1.value,
        drawn="top1",
        asked="an accuracy of at least {}",
        missed="{} accuracy where {} are asked for",
        too="too few",
        typed=lambda x: f"{100 * x:g} %",
        measured=lambda x: f"{units.percent(x)} %",
        unknown="not judged",
        example="the share of right answers, 80% or 0.8",
        read=parse_share,
        share=True,
    ),
    Constraint(
        *("max_bytes", "--max-bytes", "the size"),
        at_least=False,
        value=lambda row: row.artifact.size_bytes,
        drawn=None,
        asked="a file of at most {}",
        missed="a file of {} where {} are allowed",
        too="too large",
        typed=_megabytes_typed,
        measured=_megabytes,
        unknown="of unknown size",
        example="the size of the file, e.g. 5MB",
        read=parse_bytes,
    ),
    Constraint(
        *("max_memory_bytes", "--max-memory", "the memory"),
        at_least=False,
        value=lambda row: row.peak_memory_bytes,
        drawn=None,
        asked="at most {} of memory",
        missed="{} of memory where {} are allowed",
        too="too much",
        typed=_megabytes_typed,
        measured=_megabytes,
        unknown="its memory was not measured",
        example="what the process may take, e.g. 200MB",
        read=parse_bytes,
    ),
)
RUNTIME, CONFIDENCE = "--runtime", "--confidence"


@dataclass(frozen=True)
class Budget:
    """What is asked for; None asks nothing, but something must be.

    Args:
        speedup: at least so many times faster than the teacher in the same runtime.
        max_accuracy_drop: top-1 that may be lost against the teacher, a fraction.
        latency_s: at most so many seconds for one image, at the smallest batch measured.
        min_accuracy: top-1, a fraction.
        max_bytes: of the deployed file.
        max_memory_bytes: peak of a fresh process that loads the file and runs it.
        runtime: what must load it.
        confidence: the probability that all bounds are met together must reach this; in
            [0.5, 1). None: the numbers as they were measured must meet them.

    Raises:
        UserError: nothing is asked for, or something out of its range.
    """

    speedup: float | None = None
    max_accuracy_drop: float | None = None
    latency_s: float | None = None
    min_accuracy: float | None = None
    max_bytes: float | None = None
    max_memory_bytes: float | None = None
    runtime: str | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, x.name) is None for x in fields(self) if x.name != "confidence"):
            options = ", ".join([constraint.option for constraint in CONSTRAINTS])
            raise UserError(f"No budget was given: ask for one or more of {options}, {RUNTIME}.")
        for constraint, limit in self.limits():
            constraint.check(limit)
        if self.runtime is not None and self.runtime not in discover():
            raise UserError(f"{RUNTIME} {self.runtime}: choose of {', '.join(discover())}.")
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise UserError(
                f"{CONFIDENCE} {self.confidence:g} is out of range: give the probability that all "
                "bounds are met, from 0.5 to below 1, e.g. 0.95."
            )

    @classmethod
    def typed(cls, *, latency_ms: float | None = None, **written: Any) -> "Budget":
        """Of what people write behind options and in recipes: speedup="5x", max_bytes="6MB".

        Args:
            latency_ms: of a recipe, where the key's name says the unit.
            written: by the options' names; fields of a budget as they are. None asks nothing.
        """
        if latency_ms is not None:
            written["latency"] = f"{latency_ms!r}ms"
        reads = {x.argument: (x.field, x.option, x.read) for x in CONSTRAINTS}
        reads["confidence"] = ("confidence", CONFIDENCE, parse_share)
        limits: dict[str, Any] = {}
        for name, value in written.items():
            if value is not None:
                field, option, read = reads.get(name, (name, "", lambda given: given))
                limits[field] = behind(option, read, value)
        return cls(**limits)

    def limits(self) -> Iterator[tuple[Constraint, float]]:
        """The bounds that are asked for, with their limits."""
        for constraint in CONSTRAINTS:
            if (limit := getattr(self, constraint.field)) is not None:
                yield constraint, limit

    def options(self) -> list[str]:
        """What was asked with."""
        return [
            *(constraint.option for constraint, _ in self.limits()),
            *([RUNTIME] if self.runtime else []),
            *([CONFIDENCE] if self.confidence else []),
        ]

    def __str__(self) -> str:
        asked = [
            constraint.asked.format(constraint.typed(limit)) for constraint, limit in self.limits()
        ]
        asked += [f"in {self.runtime}"] if self.runtime else []
        sure = f", with {100 * self.confidence:g} % probability" if self.confidence else ""
        return ", ".join(asked) + sure
