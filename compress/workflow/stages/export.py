"""Candidate -> artifact: the file that runtimes load, checked against the network."""

import shutil
from pathlib import Path

import numpy as np

from compress.data.input_spec import METADATA_KEY, InputSpec, normalise
from compress.export.artifact import Artifact, files_of, sha256_of, size_of
from compress.export.metadata import write_metadata
from compress.export.onnx import check_export, count_parameters, export_onnx
from compress.export.reference_answers import write_reference
from compress.measure.inference import run_on_decoded
from compress.measure.macs import count_macs
from compress.methods.context import Context
from compress.models.candidate import Candidate
from compress.models.provenance import FILE
from compress.models.sessions import open_session
from compress.results.schema import Runtime
from compress.runtimes import runtime_for
from compress.runtimes.outputs import Outputs
from compress.tasks import task_of
from compress.workflow.cache import Stage

VERSION = 2  # 2: files hold no paths of the machine that they were made on
CHECKED_IMAGES = 8


def plan(name: str, runtime: Runtime, data: Stage, model: Stage) -> Stage:
    """One file for all runtimes, and for torch the network itself.

    In the keys "onnxruntime" stands for the former: with another word, every export ever made would
    be made again.
    """
    served = runtime == "torch"
    title = f"{name}: as served today" if served else f"{name}: export"
    settings = {"runtime": "torch" if served else "onnxruntime"}
    refers = ("model",) if served else ()
    return Stage("export", title, VERSION, settings, {"data": data, "model": model}, run, refers)


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
            chosen = data.indices("validation")[:CHECKED_IMAGES]
            images = context.pixels(data, inputs["data"]).of(chosen, candidate.spec)
            difference = check_export(candidate, path, normalise(images, candidate.spec))
            context.progress.note(f"exported file agrees with the network within {difference:.1e}")
    spec = _fitted(candidate.spec, path, stage, inputs, context)
    if stage.settings["runtime"] != "torch":
        if spec != candidate.spec:
            write_metadata(path, METADATA_KEY, spec.model_dump_json())
        write_reference(path, spec, context.machine)
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
        spec=spec,
    )
    artifact.save(folder)


def _fitted(
    spec: InputSpec, path: Path, stage: Stage, inputs: dict[str, Path], context: Context
) -> InputSpec:
    """Return the spec with what the task fits to the very file on training images, if anything."""
    task = task_of(spec)
    if not task.fits:
        return spec
    assert spec.predicted is not None
    runtime = "torch" if stage.settings["runtime"] == "torch" else runtime_for(path)
    session = open_session(path, runtime, context.threads, context.allowed)
    data = context.data(inputs["data"])
    pixels = context.pixels(data, inputs["data"])

    def ask(indices: np.ndarray) -> Outputs:
        return run_on_decoded(session, pixels, indices, spec)

    predicted = spec.predicted.model_copy(update={"fitted": task.fit(ask, data)})
    return spec.model_copy(update={"predicted": predicted})
