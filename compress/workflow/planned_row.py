"""One future row of the table, as planned."""

from dataclasses import dataclass

from compress.results.schema import Role, RowKey, Runtime
from compress.workflow.cache import Stage


@dataclass(frozen=True)
class PlannedRow:
    """One future row of the table: a candidate's artifact in one runtime."""

    candidate: str
    role: Role
    control_of: str | None
    control: str | None  # its kind, where it is one
    runtime: Runtime
    model: Stage  # the stage that made the candidate
    artifact: Stage
    accuracy: Stage
    layers: Stage | None = None
    saliency: Stage | None = None
    doubts: Stage | None = None  # whether the teacher is asked rightly

    @property
    def key(self) -> RowKey:
        """What the row is addressed by."""
        return RowKey(self.candidate, self.runtime)

    @property
    def ends(self) -> list[Stage]:
        """The stages that, with those they build on, make the row but for its times."""
        ends = (self.accuracy, self.doubts, self.layers, self.saliency)
        return [stage for stage in ends if stage]
