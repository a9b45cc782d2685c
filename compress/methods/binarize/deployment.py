"""The file that a binary network is deployed as: the faster of two, built and proven."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from compress.export.onnx import export_onnx
from compress.measure.latency import speedup
from compress.measure.processes import Timed, time_in_processes
from compress.methods.binarize.layer_timing import layer_seconds, limits
from compress.methods.binarize.openvino_graph import (
    TURNED_SIGNS,
    Proof,
    binary_shapes,
    difference_to_onnxruntime,
    int8_rest,
    prove,
    write_ir,
)
from compress.methods.context import Context
from compress.models.binary_layers import binary_layers
from compress.models.candidate import Candidate
from compress.results.schema import Decision, StepReport
from compress.utils.alone import TIMING, alone_on_machine

Rest = Literal["float32", "int8"]
RESTS: tuple[Rest, ...] = ("float32", "int8")
DEPLOYED, SIMULATED = "binary.xml", "simulated.onnx"
PROVEN_ON = 8  # images
PROCESSES, ROUNDS = 3, 20


def deploy(
    candidate: Candidate, images: np.ndarray, rest: Rest, folder: Path, context: Context
) -> Candidate:
    """Write the deployed file into `folder` and say what was proven of it.

    Where the popcount kernel is missing or wrong the file is an exact float one, and dropped.

    Args:
        images: float32 (n, channels, height, width) of the training split, normalised.
        rest: what the real layers are in.
    """
    simulated, file = folder / SIMULATED, folder / DEPLOYED
    export_onnx(candidate, simulated)
    proof = prove(candidate, simulated, images[:PROVEN_ON], context.threads)
    if proof.failure is not None:
        return _simulated(candidate, proof.failure)
    difference = _write(candidate, simulated, rest, file, images, context)
    if difference > TURNED_SIGNS:
        for part in (file, file.with_suffix(".bin")):
            part.unlink()
        return _simulated(
            candidate, f"the file differs by {difference:.1%} from its graph in onnxruntime"
        )
    simulated.unlink()
    report = StepReport(
        step="binarize",
        decisions=_decisions(candidate, context),
        notes=[*_proven(candidate, proof, rest, difference)],
    )
    return candidate.deployed_as(DEPLOYED, report)


def _write(
    candidate: Candidate,
    simulated: Path,
    rest: Rest,
    file: Path,
    images: np.ndarray,
    context: Context,
) -> float:
    """Write the file with its real layers in `rest`; return how far it is from its graph."""
    proto = int8_rest(simulated, images) if rest == "int8" else onnx.load(simulated)
    write_ir(proto, file, candidate.spec)
    return difference_to_onnxruntime(proto, file, images[:PROVEN_ON], context.threads)


def faster_rest(
    candidate: Candidate, images: np.ndarray, folder: Path, context: Context
) -> tuple[Rest, list[str]]:
    """Return what the real layers are faster in on this machine, and that in a sentence.

    Where no binary file can be made here, which `deploy` says, it is float32.
    """
    simulated = folder / f".{SIMULATED}"
    files: dict[Rest, Path] = {rest: folder / f".{rest}.xml" for rest in RESTS}
    export_onnx(candidate, simulated)
    try:
        if prove(candidate, simulated, images[:PROVEN_ON], context.threads).failure is not None:
            return "float32", []
        for rest, file in files.items():
            _write(candidate, simulated, rest, file, images, context)
        timed = time_in_processes(
            {rest: Timed(path, "openvino") for rest, path in files.items()},
            {1: ROUNDS},
            context.threads,
            PROCESSES,
            note=context.progress.note,
        )
    finally:
        for left in [simulated, *folder.glob(".*.xml"), *folder.glob(".*.bin")]:
            left.unlink(missing_ok=True)
    found = speedup("float32", "openvino", timed["float32"][0], timed["int8"][0]).ratio
    kept: Rest = "int8" if found.value > 1 else "float32"
    return kept, [
        f"binarize: with its real layers in int8 the file is {found.value:.2f} times as fast as "
        f"with them in float32 ({found.low:.2f} to {found.high:.2f}), so they are in {kept}."
    ]


def _simulated(candidate: Candidate, failure: str) -> Candidate:
    reason = (
        f"Simulated, no speedup: on this machine {failure}. The file is an exact float one; a CPU "
        "with AVX2 and OpenVINO 2025 or newer run the binary one."
    )
    report = StepReport(step="binarize", notes=[f"binarize: {reason}"])
    return candidate.deployed_as(SIMULATED, report, dropped=reason)


def _proven(candidate: Candidate, proof: Proof, rest: Rest, difference: float) -> Sequence[str]:
    weights = sum(layer.weight.numel() for layer in binary_layers(candidate.model).values())
    return (
        f"binarize: {proof.layers} convolutions run as popcounts ({', '.join(proof.kernels)} in "
        "the runtime's own graph); each gave the network's sums bit for bit on a real image, and "
        f"the whole gave the network's outputs within {proof.difference:.1e} of their deviation.",
        f"binarize: the real layers are in {rest}; the deployed file agrees within "
        f"{difference:.1e} with its graph in onnxruntime.",
        f"binarize: {weights:,} weights are stored as bits: {weights / 8e6:.3g} MB, "
        f"{weights * 4 / 1e6:.3g} MB in float32.",
    )


def _decisions(candidate: Candidate, context: Context) -> list[Decision]:
    """Report what each binary layer takes on this machine, beside int8 and float32."""
    shapes = binary_shapes(candidate)
    with alone_on_machine(TIMING, context.progress.note):
        fastest = limits(context.threads)["binary"]
        seconds = layer_seconds(list(shapes.values()), context.threads)
    return [
        Decision(
            layer=name,
            change="binary",
            before_s=taken["float32"],
            int8_s=taken["int8"],
            after_s=taken["binary"],
            limit_share=shape.macs / taken["binary"] / fastest,
            kept=True,
        )
        for (name, shape), taken in zip(shapes.items(), seconds, strict=True)
    ]
