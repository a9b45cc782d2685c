"""Puts deployed networks together to a pipeline folder and judges it on annotated photographs."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.artifact import Artifact, files_of
from compress.context import Context
from compress.files import write_text
from compress.pipeline.cascade import Cascade
from compress.pipeline.judge import judge
from compress.pipeline.spec import PipelineSpec
from compress.pipeline.spec import Stage as Look
from compress.results import JudgedPhotograph, Machine
from compress.runtimes import package_of
from compress.stage import Stage

VERSION = 1
PIPELINE, JUDGED = "pipeline", "judged.json"


@dataclass(frozen=True)
class Part:
    """A stage of the pipeline and the stage of the run that exported its network."""

    look: Look  # its model is named when the folder is written
    artifact: Stage


def plan(
    name: str, parts: Sequence[Part], min_probability: float, machine: Machine, data: Stage
) -> Stage:
    """What a pipeline answers depends on its files, the runtimes' versions and the CPU."""
    runtimes = {part.look.runtime for part in parts} - {None}
    described = {
        "stages": [part.look.model_dump(exclude={"model"}) for part in parts],
        "min_probability": min_probability,
        "versions": {r: machine.versions.get(package_of(r)) for r in sorted(map(str, runtimes))},
        "cpu_flags": machine.cpu_flags,
    }
    artifacts = {part.look.name: part.artifact for part in parts}
    title = f"{name}: end to end on photographs"
    return Stage("cascade", title, VERSION, described, {"data": data, **artifacts})


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    looks = []
    for described in stage.settings["stages"]:
        source = Artifact.load(inputs[described["name"]]).path
        place = folder / PIPELINE / described["name"]
        place.mkdir(parents=True, exist_ok=True)
        for file in files_of(source):
            shutil.copyfile(file, place / file.name)
        model = f"{described['name']}/{source.name}"
        looks.append(Look.model_validate(described | {"model": model}))
    minimum = stage.settings["min_probability"]
    PipelineSpec(stages=tuple(looks), min_probability=minimum).save(folder / PIPELINE)
    cascade = Cascade.load(folder / PIPELINE, context.threads, context.allowed)
    data = context.data(inputs["data"])
    judged = judge(cascade, data, data.indices("validation").tolist(), context.progress.advance)
    write_text(folder / JUDGED, json.dumps([x.model_dump() for x in judged]))


def load(folder: Path) -> list[JudgedPhotograph]:
    """What `run` wrote, a photograph each in the order of the data's validation split."""
    return [
        JudgedPhotograph.model_validate(x) for x in json.loads((folder / JUDGED).read_text("utf-8"))
    ]
