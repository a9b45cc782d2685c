"""Content-keyed stages: a stage is a pure function of its key, so nothing is computed twice.

The key is made of the stage's settings, its code's version and its inputs' keys. A stage's folder
holds what it made; `stage.json`, written last, says that it is finished.

What a step decides by measuring is a stage of its own. Where it is the input of another, the
folder of that other is named after what was decided and not after the machine that decided it: a
network that is trained after the same decision is not trained again on another CPU.
"""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.methods.decided import Decided
from compress.utils.files import write_text
from compress.workflow.claims import Claims
from compress.workflow.shared import DONE, Shared

if TYPE_CHECKING:
    from compress.methods.context import Context

DECIDE = "decide"  # the kind of stage that decides
MEASURED_ON = "measured_on"  # of settings: the machine whose times are part of the outcome
OF_A_MACHINE = (MEASURED_ON, "precision", "teacher_precision")
# Kinds of stages that may be taken: see `Store.reuse_other_machine`.
TRAVELS = ("teacher", "teacher_outputs", "prepare", DECIDE, "step")


Work = Callable[["Stage", dict[str, Path], Path, "Context"], None]


class Undecided(Exception):
    """A folder has no name yet: a decision that it depends on has not been made."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One unit of work.

    Attributes:
        refers: roles of inputs whose files its outcome names: they have to lie beside it.
    """

    kind: str
    title: str
    version: int
    settings: dict[str, Any]  # JSON
    inputs: dict[str, "Stage"] = field(default_factory=dict)
    run: "Work | None" = None  # given the stage, its inputs' folders, its own, and the context
    refers: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all that was asked for, on which machine too."""
        return self.digest({role: stage.key for role, stage in self.inputs.items()})

    def digest(self, inputs: dict[str, str], settings: dict[str, Any] | None = None) -> str:
        """Return 16 hexadecimal digits that stand for the stage, given what stands for its inputs.

        Args:
            settings: instead of the stage's own.
        """
        return _digest(
            {
                "kind": self.kind,
                "version": self.version,
                "settings": self.settings if settings is None else settings,
                "inputs": inputs,
            }
        )


def _digest(record: Any) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _anywhere(settings: Any) -> Any:
    """Return settings without what belongs to a machine."""
    if isinstance(settings, dict):
        return {k: _anywhere(v) for k, v in settings.items() if k not in OF_A_MACHINE}
    return settings


@dataclass(frozen=True)
class Store:
    """Stage folders below one root, and in a store that others share, if one is given.

    Args:
        reuse_other_machine: where a decision or a trained network is missing, take one that another
            machine left here, decided by its times or trained in its precision. What is measured of
            the result itself is always of this machine.
        shared: what is finished there is finished, and brought here when it is needed.
        run: what the run is called; empty: as those before it in this folder.
    """

    root: Path
    reuse_other_machine: bool = False
    shared: Shared | None = None
    run: str = ""
    _folders: dict[str, Path] = field(default_factory=dict, repr=False)

    def folder(self, stage: Stage) -> Path:
        """Return where the stage's outcome lies, or will lie.

        Raises:
            Undecided: it depends on a decision that has not been made.
        """
        folder = self._place(stage)
        if self.shared and not (folder / DONE).is_file() and self.shared.is_done(folder.name):
            self.shared.take(folder.name, folder)
        for role in stage.refers:
            self.folder(stage.inputs[role])
        return folder

    def _place(self, stage: Stage) -> Path:
        """Return the same; what lies in a shared store alone stays there."""
        if stage.key not in self._folders:
            own = self._own_folder(stage)
            found = None if self._is_there(own) else self._of_other_machine(stage)
            self._folders[stage.key] = found or own
        return self._folders[stage.key]

    def _is_there(self, folder: Path) -> bool:
        if (folder / DONE).is_file():
            return True
        return self.shared is not None and self.shared.is_done(folder.name)

    def _own_folder(self, stage: Stage) -> Path:
        return self.root / f"{stage.kind}-{stage.digest(self._identities(stage))}"

    def names(self) -> dict[str, str]:
        """Return the folders' names that are known, by the stages' keys."""
        return {key: folder.name for key, folder in self._folders.items()}

    def folders(self, stage: Stage) -> dict[str, Path]:
        """Return the folders of the stage's inputs, by role."""
        return {role: self.folder(input_) for role, input_ in stage.inputs.items()}

    def name(self, stage: Stage) -> str:
        """Return the folder's name, or why it has none yet."""
        try:
            return self._place(stage).name
        except Undecided as error:
            return f"after {error}"

    def is_done(self, stage: Stage) -> bool:
        try:
            return self._is_there(self._place(stage))
        except Undecided:
            return False

    def made_on_other_machine(self, stage: Stage) -> dict[str, Any] | None:
        """Return the settings of the stage whose outcome was taken in its place, if one was."""
        if self._place(stage) == self._own_folder(stage):
            return None
        settings: dict[str, Any] = _record(self.folder(stage))["settings"]
        return settings

    def compute(
        self, stage: Stage, work: Callable[[Path], None], where: dict[str, Any] | None = None
    ) -> float:
        """Does the work in the stage's folder, marks it finished, returns the seconds it took.

        What a killed attempt left in the folder is still there: the work may go on from it.

        Args:
            where: what is kept of the machine that does it.
        """
        folder = self._place(stage)
        folder.mkdir(parents=True, exist_ok=True)
        started, began = time.perf_counter(), time.time()
        if self.shared is None:
            work(folder)
        else:
            self.shared.begun(folder.name, folder)
            with self.shared.following(folder.name, folder, self.run_name):
                work(folder)
        seconds = time.perf_counter() - started
        record = {
            "title": stage.title,
            "version": stage.version,
            "settings": stage.settings,
            "inputs": {role: self._place(input_).name for role, input_ in stage.inputs.items()},
            "likeness": self._likeness(stage),
            "seconds": seconds,
            "began": began,  # seconds since 1970
            "where": where,
        }
        self._finish(folder, record)
        return seconds

    def _finish(self, folder: Path, record: dict[str, Any]) -> None:
        if self.shared and not self.shared.finish(folder.name, record, self.run_name):
            shutil.rmtree(folder)  # another run was faster, and others build on what it made
            self.shared.take(folder.name, folder)
        else:
            write_text(folder / DONE, json.dumps(record, indent=1))

    def share(self, stage: Stage) -> None:
        """Put a stage into the shared store that is finished here alone."""
        folder = self._place(stage)
        if self.shared and not self.shared.is_done(folder.name):
            with self.shared.following(folder.name, folder, self.run_name):
                record = _record(folder)
            self.shared.finish(folder.name, record, self.run_name)

    @cached_property
    def run_name(self) -> str:
        """What the run is called: one that goes on in a folder has the name that it had."""
        if self.run:
            return self.run
        file = self.root / ".run"
        if not file.is_file():
            write_text(file, uuid.uuid4().hex[:12])
        return file.read_text("utf-8")

    @cached_property
    def claims(self) -> Claims:
        """What is being computed of a shared store."""
        assert self.shared is not None
        return Claims(self.shared, self.run_name)

    def _identities(self, stage: Stage) -> dict[str, str]:
        """Return what the name of the stage's folder holds of each input."""
        return {
            role: self._decided(input_) or self._place(input_).name.rpartition("-")[2]
            for role, input_ in stage.inputs.items()
        }

    def _decided(self, stage: Stage) -> str:
        """Return the digest of what a stage decided; empty for others."""
        if stage.kind != DECIDE:
            return ""
        if not self.is_done(stage):
            raise Undecided(stage.title)
        return _digest(Decided.load(self.folder(stage)).content)

    def _likeness(self, stage: Stage) -> str:
        """Return the same digits for stages that differ in nothing but the machine."""
        inputs = {
            role: self._decided(input_) or self._likeness(input_)
            for role, input_ in stage.inputs.items()
        }
        return stage.digest(inputs, _anywhere(stage.settings))

    def _of_other_machine(self, stage: Stage) -> Path | None:
        """Return the newest folder of a stage that differs in nothing but the machine."""
        here = stage.kind != DECIDE and MEASURED_ON in stage.settings
        if not self.reuse_other_machine or here or stage.kind not in TRAVELS:
            return None
        likeness = self._likeness(stage)
        done = [path for path in self.root.glob(f"{stage.kind}-*/{DONE}")]
        alike = [path for path in done if _record(path.parent).get("likeness") == likeness]
        newest = max(alike, key=lambda path: path.stat().st_mtime, default=None)
        if newest is None and self.shared is not None:
            names = reversed(self.shared.done(stage.kind))
            alikes = (x for x in names if self.shared.record(x).get("likeness") == likeness)
            return next((self.root / name for name in alikes), None)
        return newest.parent if newest else None


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / DONE).read_text("utf-8"))
    return record
