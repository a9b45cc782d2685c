"""Picks the model that a budget asks for, and says why, or what to relax when nothing fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

from compress.errors import UserError
from compress.pareto import deployed
from compress.report import say, units
from compress.results import Result

SPEEDUP, DROP = "--speedup", "--max-accuracy-drop"


@dataclass(frozen=True)
class Budget:
    """What is asked for.

    Args:
        speedup: times faster than the teacher in the same runtime, > 0.
        max_accuracy_drop: right answers (top-1) that may be lost, as a fraction in [0, 1].

    Raises:
        UserError: a bound out of its range.
    """

    speedup: float
    max_accuracy_drop: float

    def __post_init__(self) -> None:
        if not 0 < self.speedup < float("inf"):
            raise UserError(
                f"--speedup {self.speedup:g} asks for nothing: give how many times faster than "
                "the teacher, above 0, e.g. --speedup 10."
            )
        if not 0 <= self.max_accuracy_drop <= 1:
            raise UserError(
                f"--max-accuracy-drop {self.max_accuracy_drop:g} is not a fraction between 0 and "
                "1: one point is --max-accuracy-drop 0.01."
            )

    def __str__(self) -> str:
        return (
            f"at least {self.speedup:g} times faster than the teacher in the same runtime, at "
            f"most {units.points_typed(self.max_accuracy_drop)} of accuracy lost"
        )


@dataclass(frozen=True)
class Offer:
    """A row as the budget sees it; the teacher offers itself at 1 times and no drop."""

    row: Result
    speedup: float
    drop: float

    def meets_speedup(self, budget: Budget) -> bool:
        return self.speedup >= budget.speedup

    def meets_drop(self, budget: Budget) -> bool:
        return self.drop <= budget.max_accuracy_drop

    def fits(self, budget: Budget) -> bool:
        return self.meets_speedup(budget) and self.meets_drop(budget)


@dataclass(frozen=True)
class Relaxation:
    """The smallest change of one bound alone that lets `row` in."""

    option: str
    value: float  # typed as printed, it lets the row in
    row: Result
    text: str


@dataclass(frozen=True)
class Choice:
    """The answer to a budget; `picked` is None when nothing fits."""

    budget: Budget
    picked: Result | None = None
    why: str = ""
    runner_up: Result | None = None
    runner_up_lost: str = ""
    warnings: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)  # for each that does not fit or was dropped
    relaxations: list[Relaxation] = field(default_factory=list)  # when nothing fits

    def hints(self) -> list[str]:
        """What to relax, a sentence for each bound; empty when something fits."""
        if self.picked:
            return []
        helpful = {x.option: x.text for x in self.relaxations}
        useless = "{} alone lets nothing in: no row meets the other bound."
        return [helpful.get(x, useless.format(x)) for x in (SPEEDUP, DROP)]


def choose(rows: Sequence[Result], budget: Budget) -> Choice:
    """The most accurate of the deployed rows that meet both bounds; the fastest of equals.

    Rows in torch, dropped rows and rows measured without a teacher to compare with do not compete.
    """
    offers = sorted(filter(None, map(_offer, deployed(rows))), key=_preference)
    fitting = [offer for offer in offers if offer.fits(budget)]
    misses = _misses(rows, offers, budget)
    if not fitting:
        return Choice(budget, misses=misses, relaxations=_relaxations(offers, budget))
    best, others = fitting[0], fitting[1:]
    return Choice(
        budget,
        picked=best.row,
        why=say.why(best.row),
        runner_up=others[0].row if others else None,
        runner_up_lost=say.lost(best.row, others[0].row) if others else "",
        warnings=say.warnings(best.row, [other.row for other in others], budget),
        misses=misses,
    )


def fits(row: Result, budget: Budget) -> bool:
    """Whether the row competes and meets both bounds."""
    offer = _offer(row) if deployed([row]) else None
    return offer is not None and offer.fits(budget)


def _offer(row: Result) -> Offer | None:
    if row.role == "teacher":
        return Offer(row, 1.0, 0.0)
    if row.speedup is None or row.accuracy.top1_drop is None:
        return None
    return Offer(row, row.speedup.ratio.value, row.accuracy.top1_drop.value)


def _preference(offer: Offer) -> tuple[float, float, str]:
    return (-offer.row.accuracy.top1.value, offer.row.latency_s, say.name(offer.row))


def _misses(rows: Sequence[Result], offers: list[Offer], budget: Budget) -> list[str]:
    missing = [x for x in offers if not x.fits(budget) and x.row.role != "teacher"]
    dropped = [row for row in rows if row.dropped is not None]
    unknown = [row for row in deployed(rows) if not any(row is x.row for x in offers)]
    return [
        *(say.miss(x.row, x.speedup, x.drop, budget) for x in missing),
        *map(say.dropped, dropped),
        *(f"{say.name(row)}: not compared with a teacher in its runtime" for row in unknown),
    ]


def _relaxations(offers: list[Offer], budget: Budget) -> list[Relaxation]:
    """Offers come most preferred first, and max and min keep the first of equals."""
    found = []
    offers = [offer for offer in offers if offer.row.role != "teacher"]
    accurate = [offer for offer in offers if offer.meets_drop(budget)]
    if accurate:
        offer = max(accurate, key=lambda x: x.speedup)
        found.append(_relaxation(SPEEDUP, offer.speedup, ROUND_FLOOR, offer.row))
    fast = [offer for offer in offers if offer.meets_speedup(budget)]
    if fast:
        offer = min(fast, key=lambda x: x.drop)
        found.append(_relaxation(DROP, offer.drop, ROUND_CEILING, offer.row))
    return found


def _relaxation(option: str, exact: float, rounding: str, row: Result) -> Relaxation:
    """Rounds to four digits away from the row, so that the printed number does let it in."""
    typed = Context(prec=4, rounding=rounding).create_decimal(repr(exact))
    text = f"{option} {typed.normalize():f} alone would let in {say.name(row)}."
    return Relaxation(option, float(typed), row, text)
