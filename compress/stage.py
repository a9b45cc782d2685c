"""Content-keyed stages: a stage is a pure function of its key, so nothing is computed twice.

The key is made of the stage's settings, its code's version and its inputs' keys. A stage's folder
holds what it made; `stage.json`, written last, says that it is finished.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compress.files import write_text

DONE = "stage.json"


@dataclass(frozen=True, eq=False)
class Stage:
    """One unit of work. `kind` names the module in compress/stages that does it."""

    kind: str
    title: str
    version: int
    settings: dict[str, Any]  # JSON
    inputs: dict[str, "Stage"] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of the SHA-256 of everything the outcome depends on."""
        record = {
            "kind": self.kind,
            "version": self.version,
            "settings": self.settings,
            "inputs": {role: stage.key for role, stage in self.inputs.items()},
        }
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder_name(self) -> str:
        return f"{self.kind}-{self.key}"


@dataclass(frozen=True)
class Store:
    """Stage folders below one root."""

    root: Path

    def folder(self, stage: Stage) -> Path:
        return self.root / stage.folder_name

    def folders(self, stage: Stage) -> dict[str, Path]:
        """The folders of the stage's inputs, by role."""
        return {role: self.folder(input_) for role, input_ in stage.inputs.items()}

    def is_done(self, stage: Stage) -> bool:
        return (self.folder(stage) / DONE).is_file()

    def compute(self, stage: Stage, work: Callable[[Path], None]) -> float:
        """Does the work in the stage's folder, marks it finished, returns the seconds it took.

        What a killed attempt left in the folder is still there: the work may go on from it.
        """
        folder = self.folder(stage)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        work(folder)
        seconds = time.perf_counter() - started
        record = {
            "title": stage.title,
            "version": stage.version,
            "settings": stage.settings,
            "inputs": {role: s.folder_name for role, s in stage.inputs.items()},
            "seconds": seconds,
        }
        write_text(folder / DONE, json.dumps(record, indent=1))
        return seconds
