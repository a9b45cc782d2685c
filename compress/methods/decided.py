"""What a step decided before anything is made or trained by it: widths, ranks, layers in int8."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.results.schema import StepReport
from compress.utils.files import write_text

DECISION = "decision.json"


@dataclass(frozen=True)
class Decided:
    """All that what follows depends on, and how it was found.

    Args:
        content: JSON. Training after it depends on this and not on how it was found.
        report: what was asked for, predicted and measured; None where there is nothing to say.
    """

    content: dict[str, Any]
    report: StepReport | None = None

    def save(self, folder: Path) -> None:
        """Write `decision.json`."""
        report = self.report.model_dump() if self.report else None
        write_text(folder / DECISION, json.dumps({"decided": self.content, "report": report}))

    @classmethod
    def load(cls, folder: Path) -> "Decided":
        """Read what `save` wrote."""
        record = json.loads((folder / DECISION).read_text("utf-8"))
        report = record["report"]
        return cls(record["decided"], StepReport.model_validate(report) if report else None)
