"""Where a deployed file's time goes, layer by layer."""

import json
import tempfile
from pathlib import Path

from compress.export.artifact import Artifact
from compress.measure.deployable import as_deployed
from compress.measure.layer_profile import time_layers
from compress.methods.context import Context
from compress.results.schema import LayerTime, Machine, Runtime
from compress.utils.alone import TIMING, alone_on_machine
from compress.utils.files import write_text
from compress.workflow.cache import Stage

VERSION = 2
FILE = "layers.json"


def plan(name: str, runtime: Runtime, machine: Machine, threads: int, artifact: Stage) -> Stage:
    """Layers' times belong to a machine and its runtimes, as the latency does."""
    described = {"runtime": runtime, "threads": threads, "machine": machine.comparable()}
    title = f"{name}: layers in {runtime}"
    return Stage("layers", title, VERSION, described, {"artifact": artifact}, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    runtime, threads = stage.settings["runtime"], stage.settings["threads"]
    with tempfile.TemporaryDirectory() as copies:
        file = as_deployed(Artifact.load(inputs["artifact"]).path, None, 1, Path(copies))
        with alone_on_machine(TIMING, context.progress.note):
            layers, _ = time_layers(file, runtime, threads, 1)
    kept = set(LayerTime.model_fields)
    write_text(folder / FILE, json.dumps([layer.model_dump(include=kept) for layer in layers]))


def load(folder: Path) -> list[LayerTime]:
    """What `run` wrote, in the order of execution."""
    return [LayerTime.model_validate(x) for x in json.loads((folder / FILE).read_text("utf-8"))]
