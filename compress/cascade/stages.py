"""Puts deployed networks together to a cascade folder and judges it on annotated photographs."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.cascade.cascade import Cascade
from compress.cascade.evaluate import annotated_points, judge
from compress.cascade.spec import CascadeSpec, CascadeStage, Look
from compress.cascade.usual_size import least_photograph_px
from compress.export.artifact import Artifact, files_of
from compress.methods.context import Context
from compress.results.schema import JudgedPhotograph, Machine, Runtime
from compress.runtimes import package_of
from compress.utils.files import write_text
from compress.workflow.cache import Stage

# 2: upright views are reduced by whole factors first; 3: by smaller ones; 4: letterboxes are those
# of training, and of names that are as probable the first counts; 5: large JPEGs are decoded no
# larger than is needed
VERSION = 5
FOLDER, JUDGED = "pipeline", "judged.json"  # as they were first called
TOLD = "annotated.json"  # points by name of each validation photograph, in their order


@dataclass(frozen=True)
class Part:
    """A stage of the cascade and the stage of the run that exported its network."""

    name: str
    look: Look
    artifact: Stage


def plan(
    name: str,
    parts: Sequence[Part],
    runtime: Runtime,
    min_probability: float,
    machine: Machine,
    data: Stage,
    threads: int,
    annotated: Sequence[str] = (),
) -> Stage:
    """What a cascade answers depends on its files, the runtime's version and the CPU.

    Args:
        annotated: points that are not found but told.
    """
    shown = set(Look.model_fields)  # of a recipe's stage all but where its networks come from
    described = {
        "stages": [
            part.look.model_dump(include=shown) | {"name": part.name, "runtime": runtime}
            for part in parts
        ],
        "min_probability": min_probability,
        "version": machine.versions.get(package_of(runtime)),
        "cpu_flags": machine.cpu_flags,
        "threads": threads,  # how long each part takes is kept with the answers
    }
    if annotated:
        described["annotated"] = list(annotated)
    artifacts = {role(part.name): part.artifact for part in parts}
    title = f"{name} in {runtime}: end to end on photographs"
    return Stage("cascade", title, VERSION, described, {"data": data, **artifacts}, run)


def role(name: str) -> str:
    """Return under what a stage's file is among the inputs: a stage may be called data."""
    return f"stage {name}"


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    data = context.data(inputs["data"])
    stages = []
    for described in stage.settings["stages"]:
        name = described["name"]
        artifact = Artifact.load(inputs[role(name)])
        source = artifact.path
        place = folder / FOLDER / name
        place.mkdir(parents=True, exist_ok=True)
        for file in files_of(source):
            shutil.copyfile(file, place / file.name)
        made = CascadeStage(**described, model=f"{name}/{source.name}")
        least = {"least_photograph_px": least_photograph_px(made, artifact.spec, data)}
        stages.append(made.model_copy(update=least))
    minimum = stage.settings["min_probability"]
    annotated = stage.settings.get("annotated", ())
    spec = CascadeSpec(stages=tuple(stages), min_probability=minimum, annotated=annotated)
    spec.save(folder / FOLDER)
    cascade = Cascade.load(folder / FOLDER, context.threads, context.allowed)
    indices = data.indices("validation").tolist()
    judged = judge(cascade, data, indices, context.progress.advance)
    if annotated:  # as it is told when it is timed
        told = annotated_points(data, indices, annotated)
        write_text(folder / FOLDER / TOLD, json.dumps(told))
    save(judged, folder)


def save(judged: Sequence[JudgedPhotograph], folder: Path) -> None:
    write_text(folder / JUDGED, json.dumps([x.model_dump() for x in judged]))


def load(folder: Path) -> list[JudgedPhotograph]:
    """What was saved, a photograph each; of `run` in the order of the data's validation split."""
    return [
        JudgedPhotograph.model_validate(x) for x in json.loads((folder / JUDGED).read_text("utf-8"))
    ]
