"""Candidate -> artifact: the file that runtimes load, checked against the network."""

import shutil
from pathlib import Path

from compress.data.input_spec import preprocess
from compress.export.artifact import Artifact, files_of, sha256_of, size_of
from compress.export.onnx import check_export, count_parameters, export_onnx
from compress.export.reference_answers import write_reference
from compress.measure.macs import count_macs
from compress.methods.context import Context
from compress.models.candidate import Candidate
from compress.models.provenance import FILE
from compress.results.schema import Runtime
from compress.workflow.cache import Stage

VERSION = 1
CHECKED_PICTURES = 8


def plan(name: str, runtime: Runtime, data: Stage, model: Stage) -> Stage:
    """One file for all runtimes, and for torch the network itself.

    In the keys "onnxruntime" stands for the former: with another word, every export ever made would
    be made again.
    """
    served = runtime == "torch"
    title = f"{name}: as served today" if served else f"{name}: export"
    settings = {"runtime": "torch" if served else "onnxruntime"}
    return Stage("export", title, VERSION, settings, {"data": data, "model": model}, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    candidate = Candidate.load(inputs["model"], context.allowed)
    macs: int | None = None
    uncounted: list[str] = []
    parameters = sum(p.numel() for p in candidate.model.parameters())
    if stage.settings["runtime"] == "torch":
        path = inputs["model"] / FILE
    else:
        path = folder / "model.onnx"
        if candidate.deployed is not None:
            # Made, and proven to run in integers, by the step; what it loses is measured below.
            made = inputs["model"] / candidate.deployed
            path = path.with_suffix(made.suffix)
            for source, target in zip(files_of(made), files_of(path), strict=True):
                shutil.copyfile(source, target)
        else:
            export_onnx(candidate, path)
            data = context.data(inputs["data"])
            chosen = data.indices("validation")[:CHECKED_PICTURES]
            pictures = preprocess(data.paths(chosen), candidate.spec)
            difference = check_export(candidate, path, pictures)
            context.progress.note(f"exported file agrees with the network within {difference:.1e}")
        write_reference(path, candidate.spec, context.machine)
        if path.suffix == ".onnx":
            macs, uncounted = count_macs(path)
            parameters = count_parameters(path)
    artifact = Artifact(
        path=path,
        sha256=sha256_of(path),
        size_bytes=size_of(path),
        parameters=parameters,
        macs=macs,
        uncounted_operations=uncounted,
        spec=candidate.spec,
    )
    artifact.save(folder)
