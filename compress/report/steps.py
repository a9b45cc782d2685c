"""What the steps of a chain have to say, as sentences and table cells."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compress.results.schema import Decision, StepReport, Target
from compress.utils import units


@dataclass(frozen=True)
class DecisionColumn:
    """A column of the table of decisions."""

    heading: str
    cell: Callable[[Decision], str]
    numeric: bool = False
    meaning: str = ""  # a sentence, where the heading does not say it
    needed: Callable[[Decision], bool] = lambda decision: True  # shown if it is of any


def _outcome(decision: Decision) -> str:
    if decision.kept:
        return f"kept: {decision.reason}" if decision.reason else "kept"
    return decision.reason or "not kept"


DECISION_COLUMNS = (
    DecisionColumn("layer", lambda d: d.layer),
    DecisionColumn("change", lambda d: d.change),
    DecisionColumn("ms before", lambda d: units.ms(d.before_s), True),
    DecisionColumn(
        "ms in int8",
        lambda d: units.ms(d.int8_s),
        True,
        needed=lambda d: d.int8_s is not None,
    ),
    DecisionColumn("ms after", lambda d: units.ms(d.after_s), True),
    DecisionColumn(
        "% of limit",
        lambda d: units.percent(d.limit_share),
        True,
        "limit: the highest rate that this runtime reached on this machine in large layers of the "
        "kind, measured with them.",
        needed=lambda d: d.limit_share is not None,
    ),
    DecisionColumn("kept", _outcome),
)


@dataclass(frozen=True)
class StepDetail:
    """One step: its target and notes as sentences, a row of cells for each decision."""

    step: str
    said: list[str]
    columns: list[DecisionColumn]
    decisions: list[list[str]]

    @property
    def summary(self) -> str:
        """Return what stands over the decisions."""
        count = len(self.decisions)
        return f"{self.step}: {count} layer{'' if count == 1 else 's'}"


def step_details(reports: Iterable[StepReport]) -> list[StepDetail]:
    return [_detail(report) for report in reports]


def _detail(report: StepReport) -> StepDetail:
    columns = [c for c in DECISION_COLUMNS if any(map(c.needed, report.decisions))]
    meanings = [f"{report.step}: {c.meaning}" for c in columns if c.meaning]
    return StepDetail(
        step=report.step,
        said=[*_target(report.step, report.target), *report.notes, *meanings],
        columns=columns,
        decisions=[[c.cell(decision) for c in columns] for decision in report.decisions],
    )


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
