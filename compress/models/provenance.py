"""How a candidate came to be: written beside its weights, read back without its network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from compress.models.structure import Replaced
from compress.results.schema import StepReport, Training

FILE = "model.safetensors"


@dataclass(frozen=True)
class Provenance:
    """What was done to a network, in order.

    Attributes:
        lineage: its builder, then each step in words.
        training: the last that it went through.
        replaced: layers that a step made others of.
        steps: what steps report of themselves.
        dropped: why no user should deploy it.
        deployed: a file beside the weights that is deployed instead of an export.
    """

    lineage: tuple[str, ...]
    training: Training | None = None
    replaced: tuple[Replaced, ...] = ()
    steps: tuple[StepReport, ...] = ()
    dropped: str | None = None
    deployed: str | None = None

    def as_metadata(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return {
            "lineage": self.lineage,
            "training": self.training.model_dump() if self.training else None,
            "replaced": self.replaced,
            "steps": [report.model_dump() for report in self.steps],
            "dropped": self.dropped,
            "deployed": self.deployed,
        }

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> "Provenance":
        """Read the metadata of a saved candidate; what older ones lack has its default."""
        training = metadata["training"]
        return cls(
            tuple(metadata["lineage"]),
            Training.model_validate(training) if training else None,
            tuple(Replaced(*change) for change in metadata.get("replaced", ())),
            tuple(StepReport.model_validate(report) for report in metadata.get("steps", ())),
            metadata.get("dropped"),
            metadata.get("deployed"),
        )

    @classmethod
    def load(cls, folder: Path) -> "Provenance":
        """Read it from a folder that `Candidate.save` wrote."""
        with safe_open(folder / FILE, "pt") as file:
            return cls.of({k: json.loads(v) for k, v in file.metadata().items()})
