"""Candidate -> artifact: the file that a runtime loads, checked against the network."""

import shutil
from pathlib import Path

from compress.artifact import Artifact, Runtime, sha256_of
from compress.candidate import FILE, Candidate
from compress.context import Context
from compress.export import check_export, count_parameters, export_onnx
from compress.input_spec import preprocess
from compress.measure.macs import count_macs
from compress.stage import Stage

VERSION = 1
CHECKED_PICTURES = 8


def plan(name: str, runtime: Runtime, data: Stage, model: Stage) -> Stage:
    title = f"{name}: export to ONNX" if runtime == "onnxruntime" else f"{name}: as served today"
    return Stage("export", title, VERSION, {"runtime": runtime}, {"data": data, "model": model})


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    candidate = Candidate.load(inputs["model"], context.allowed)
    runtime: Runtime = stage.settings["runtime"]
    macs: int | None = None
    uncounted: list[str] = []
    parameters = sum(p.numel() for p in candidate.model.parameters())
    if runtime == "onnxruntime":
        path = folder / "model.onnx"
        if candidate.deployed is not None:
            # Made, and proven to run in integers, by the step; what it loses is measured below.
            shutil.copyfile(inputs["model"] / candidate.deployed, path)
        else:
            export_onnx(candidate, path)
            data = context.data(inputs["data"])
            chosen = data.indices("validation")[:CHECKED_PICTURES]
            pictures = preprocess(data.paths(chosen), candidate.spec)
            difference = check_export(candidate, path, pictures)
            context.progress.note(f"exported file agrees with the network within {difference:.1e}")
        macs, uncounted = count_macs(path)
        parameters = count_parameters(path)
    else:
        path = inputs["model"] / FILE
    artifact = Artifact(
        path=path,
        runtime=runtime,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        parameters=parameters,
        macs=macs,
        uncounted_operations=uncounted,
        spec=candidate.spec,
    )
    artifact.save(folder)
