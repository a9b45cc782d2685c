"""Times all artifacts of a recipe: each in fresh processes of its own, then all interleaved."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from compress.export.artifact import Artifact
from compress.measure.memory import FirstRun, first_run
from compress.measure.processes import Timed, time_in_processes
from compress.methods.context import Context
from compress.recipe.schema import MeasureSettings
from compress.results.schema import Latency, Machine, RowKey
from compress.utils.alone import TIMING, alone_on_machine
from compress.utils.files import write_text
from compress.workflow.cache import Stage

if TYPE_CHECKING:
    from compress.workflow.planned_row import PlannedRow

VERSION = 7  # 5: cold start, percentiles, conditions; 7: whatever the shell says of threads
FILE = "latency.json"


@dataclass(frozen=True)
class Timings:
    """What `run` wrote."""

    measured_at: str  # ISO 8601, UTC
    latency: dict[RowKey, list[Latency]]  # smallest batch first
    first_run: dict[RowKey, FirstRun]


def spelled(row: RowKey) -> str:
    """Return what a row is called in the stage's inputs, so in its key, and in its file."""
    return f"{row.candidate} in {row.runtime}"


def row_of(name: str) -> RowKey:
    """Return the row that `spelled` spelled: no runtime's name has a space in it."""
    candidate, _, runtime = name.rpartition(" in ")
    return RowKey(candidate, runtime)


def plan(
    settings: MeasureSettings, machine: Machine, threads: int, entries: "list[PlannedRow]"
) -> Stage:
    """Latency belongs to a machine and its runtimes: both are part of the key."""
    # Which runtimes were asked for stands in the rows' names; what is right takes no time.
    unused = {"runtimes", "tolerance", "iou"}
    described = settings.model_dump(exclude=unused) | {"threads": threads}
    # The memory that a virtual machine is given changes by a little; nothing here depends on it.
    described["machine"] = machine.model_dump(exclude={"memory_bytes"})
    artifacts = {spelled(entry.key): entry.artifact for entry in entries}
    title = f"latency and memory of {len(entries)} rows, {threads} threads"
    return Stage("latency", title, VERSION, described, artifacts, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    settings, threads = stage.settings, stage.settings["threads"]
    rows = {
        row: Timed(Artifact.load(path).path, row_of(row).runtime) for row, path in inputs.items()
    }
    larger = sorted({*settings["batches"], settings["throughput_batch"]})
    with alone_on_machine(TIMING, context.progress.note):
        first = {
            name: first_run(row.path, row.runtime, threads, context.allowed)._asdict()
            for name, row in rows.items()
        }
        timed = time_in_processes(
            rows,
            {1: settings["rounds"]} | dict.fromkeys(larger, settings["throughput_rounds"]),
            threads,
            settings["processes"],
            context.allowed,
            context.progress.advance,
        )
    record = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "latency": {name: [x.model_dump() for x in found] for name, found in timed.items()},
        "first_run": first,
    }
    write_text(folder / FILE, json.dumps(record))


def load(folder: Path) -> Timings:
    """Return what `run` wrote."""
    record = json.loads((folder / FILE).read_text("utf-8"))
    return Timings(
        measured_at=record["measured_at"],
        latency={
            row_of(name): [Latency.model_validate(x) for x in timed]
            for name, timed in record["latency"].items()
        },
        first_run={row_of(name): FirstRun(**facts) for name, facts in record["first_run"].items()},
    )
