"""What the steps of a chain have to say, as sentences and table cells."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compress.report import units
from compress.results import Decision, StepReport, Target

# Heading, and whether the column holds numbers.
DECISION_COLUMNS = (
    ("layer", False),
    ("change", False),
    ("ms before", True),
    ("ms after", True),
    ("kept", False),
)


@dataclass(frozen=True)
class StepDetail:
    """One step: its target and notes as sentences, a row of cells for each decision."""

    step: str
    said: list[str]
    decisions: list[list[str]]

    @property
    def summary(self) -> str:
        """What stands over the decisions."""
        count = len(self.decisions)
        return f"{self.step}: {count} layer{'' if count == 1 else 's'}"


def step_details(reports: Iterable[StepReport]) -> list[StepDetail]:
    return [
        StepDetail(
            step=report.step,
            said=[*_target(report.step, report.target), *report.notes],
            decisions=[_cells(decision) for decision in report.decisions],
        )
        for report in reports
    ]


def _target(step: str, target: Target | None) -> list[str]:
    if target is None:
        return []
    number: Callable[[float], str]
    if target.quantity == "speedup":
        asked = f"for {target.asked:g} times the teacher's speed"
        predicted, number = "the layers' times predicted", units.significant
    else:
        verb, what = {
            "macs": ("keep", "multiply-accumulates"),
            "ratio": ("remove", "channels"),
        }[target.quantity]
        asked = f"to {verb} {100 * target.asked:g} % of the {what}"
        predicted, number = f"the widths found {verb}", _percent
    said = [f"{step}: asked {asked}"]
    if target.predicted is not None:
        said.append(f"{predicted} {number(target.predicted)}")
    if target.measured is not None:
        said.append(f"the exported network measured {number(target.measured)}")
    return [f"{', '.join(said)}."]


def _percent(fraction: float) -> str:
    return f"{units.percent(fraction)} %"


def _cells(decision: Decision) -> list[str]:
    if decision.kept:
        outcome = f"kept: {decision.reason}" if decision.reason else "kept"
    else:
        outcome = decision.reason or "not kept"
    times = [units.ms(decision.before_s), units.ms(decision.after_s)]
    return [decision.layer, decision.change, *times, outcome]
