"""Times pipelines from a photograph's bytes to the answer, interleaved, in fresh processes."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compress.cascade.stages import PIPELINE
from compress.cascade.timing import PROGRAM
from compress.measure.processes import Timed, time_in_processes
from compress.methods.context import Context
from compress.recipe.schema import MeasureSettings
from compress.results.schema import Machine
from compress.utils.files import write_text
from compress.workflow.cache import Stage

VERSION = 3  # threads sleep between runs, each on its own CPU
FILE = "latency.json"
PHOTOGRAPHS = 20  # of the validation split, round by round another


def plan(
    settings: MeasureSettings,
    machine: Machine,
    threads: int,
    data: Stage,
    pipelines: Mapping[str, Stage],
) -> Stage:
    """Latency belongs to a machine and its runtimes: both are part of the key."""
    described = settings.model_dump(include={"processes", "rounds"}) | {"threads": threads}
    described["machine"] = machine.model_dump(exclude={"memory_bytes"})
    title = f"latency of {len(pipelines)} pipelines, {threads} threads"
    inputs = {"data": data, **pipelines}
    return Stage("cascade_latency", title, VERSION, described, inputs, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    settings = stage.settings
    data = context.data(inputs["data"])
    photographs = data.paths(data.indices("validation")[:PHOTOGRAPHS])
    timed = time_in_processes(
        {
            name: Timed(path / PIPELINE, "as the folder says")
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
    )
    record = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "latency": {name: found[0].model_dump() for name, found in timed.items()},
    }
    write_text(folder / FILE, json.dumps(record))


def load(folder: Path) -> dict[str, Any]:
    """What `run` wrote: measured_at, and latency by pipeline."""
    record: dict[str, Any] = json.loads((folder / FILE).read_text("utf-8"))
    return record
