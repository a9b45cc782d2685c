"""Times cascades from a photograph's bytes to the answer, interleaved, in fresh processes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compress.cascade.stages import FOLDER
from compress.cascade.timing import PROGRAM
from compress.measure.processes import Timed, time_in_processes
from compress.methods.context import Context
from compress.recipe.schema import MeasureSettings
from compress.results.schema import Latency, Machine, RowKey
from compress.utils.files import write_text
from compress.workflow.cache import Stage
from compress.workflow.stages.latency import row_of, spelled

VERSION = 6  # 3: threads sleep between runs, each on its own CPU; 4 to 6: other cutting
FILE = "latency.json"
PHOTOGRAPHS = 20  # of the validation split, round by round another


@dataclass(frozen=True)
class Timings:
    """What `run` wrote."""

    measured_at: str  # ISO 8601, UTC
    latency: dict[RowKey, Latency]


def plan(
    settings: MeasureSettings,
    machine: Machine,
    threads: int,
    data: Stage,
    cascades: Mapping[RowKey, Stage],
) -> Stage:
    """Latency belongs to a machine and its runtimes: both are part of the key."""
    described = settings.model_dump(include={"processes", "rounds"}) | {"threads": threads}
    described["machine"] = machine.model_dump(exclude={"memory_bytes"})
    title = f"latency of {len(cascades)} cascades, {threads} threads"
    inputs = {"data": data, **{spelled(row): stage for row, stage in cascades.items()}}
    return Stage("cascade_latency", title, VERSION, described, inputs, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    settings = stage.settings
    data = context.data(inputs["data"])
    photographs = data.paths(data.indices("validation")[:PHOTOGRAPHS])
    timed = time_in_processes(
        {
            name: Timed(path / FOLDER, "as the folder says")
            for name, path in inputs.items()
            if name != "data"
        },
        {1: settings["rounds"]},
        settings["threads"],
        settings["processes"],
        context.allowed,
        context.progress.advance,
        photographs,
        program=PROGRAM,
        note=context.progress.note,
    )
    record = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "latency": {name: found[0].model_dump() for name, found in timed.items()},
    }
    write_text(folder / FILE, json.dumps(record))


def load(folder: Path) -> Timings:
    """Return what `run` wrote."""
    record = json.loads((folder / FILE).read_text("utf-8"))
    latency = {row_of(name): Latency.model_validate(x) for name, x in record["latency"].items()}
    return Timings(record["measured_at"], latency)
