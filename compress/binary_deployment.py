"""The file that a binary network is deployed as: built, proven, and the faster of two kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from compress.binarization import binary_layers
from compress.binary_export import (
    TURNED_SIGNS,
    Proof,
    binary_shapes,
    difference_to_onnxruntime,
    int8_rest,
    prove,
    write_ir,
)
from compress.candidate import Candidate
from compress.context import Context
from compress.export import export_onnx
from compress.measure.latency import speedup
from compress.measure.popcount import layer_seconds, limits
from compress.measure.processes import Timed, time_in_processes
from compress.results import Decision, StepReport

Rest = Literal["float32", "int8"]
RESTS: tuple[Rest, ...] = ("float32", "int8")
DEPLOYED, SIMULATED = "binary.xml", "simulated.onnx"
PROVEN_ON = 8  # pictures
PROCESSES, ROUNDS = 3, 20


def deploy(
    candidate: Candidate,
    pictures: np.ndarray,
    rest: Rest | None,
    folder: Path,
    context: Context,
) -> Candidate:
    """Writes the deployed file into `folder` and says what was proven of it.

    Where the popcount kernel is missing or wrong the file is an exact float one, and dropped.

    Args:
        pictures: float32 (n, 3, height, width) of the training split, normalised.
        rest: what the real layers are in; None tries both and keeps the faster.
    """
    simulated = folder / SIMULATED
    export_onnx(candidate, simulated)
    proof = prove(candidate, simulated, pictures[:PROVEN_ON], context.threads)
    if proof.failure is not None:
        return _simulated(candidate, proof.failure)
    files, differences = {}, {}
    for kind in RESTS if rest is None else (rest,):
        proto = onnx.load(simulated)
        if kind == "int8":
            proto = int8_rest(simulated, pictures)
        files[kind] = folder / f".{kind}.xml"
        write_ir(proto, files[kind], candidate.spec)
        difference = difference_to_onnxruntime(
            proto, files[kind], pictures[:PROVEN_ON], context.threads
        )
        if difference > TURNED_SIGNS:
            return _simulated(
                candidate, f"the file differs by {difference:.1%} from its graph in onnxruntime"
            )
        differences[kind] = difference
    kept, said = _fastest(files, context)
    for file in (files[kept], files[kept].with_suffix(".bin")):
        file.replace((folder / DEPLOYED).with_suffix(file.suffix))
    for left in [simulated, *folder.glob(".*.xml"), *folder.glob(".*.bin")]:
        left.unlink()
    report = StepReport(
        step="binarize",
        decisions=_decisions(candidate, context.threads),
        notes=[*_proven(candidate, proof, kept, differences[kept]), *said],
    )
    return replace(candidate, steps=(*candidate.steps, report), deployed=DEPLOYED)


def _simulated(candidate: Candidate, failure: str) -> Candidate:
    reason = (
        f"Simulated, no speedup: on this machine {failure}. The file is an exact float one; a CPU "
        "with AVX2 and OpenVINO 2025 or newer run the binary one."
    )
    report = StepReport(step="binarize", notes=[f"binarize: {reason}"])
    steps = (*candidate.steps, report)
    return replace(candidate, steps=steps, deployed=SIMULATED, dropped=reason)


def _fastest(files: dict[Rest, Path], context: Context) -> tuple[Rest, list[str]]:
    """The kind of file to keep, and why in a sentence where there is a choice."""
    if len(files) == 1:
        return next(iter(files)), []
    timed = time_in_processes(
        {kind: Timed(path, "openvino") for kind, path in files.items()},
        {1: ROUNDS},
        context.threads,
        PROCESSES,
    )
    found = speedup("float32", "openvino", timed["float32"][0], timed["int8"][0]).ratio
    note = (
        f"binarize: with its real layers in int8 the file is {found.value:.2f} times as fast as "
        f"with them in float32 ({found.low:.2f} to {found.high:.2f}), so they are in "
    )
    kept: Rest = "int8" if found.value > 1 else "float32"
    return kept, [f"{note}{kept}."]


def _proven(candidate: Candidate, proof: Proof, rest: Rest, difference: float) -> Sequence[str]:
    weights = sum(layer.weight.numel() for layer in binary_layers(candidate.model).values())
    return (
        f"binarize: {proof.layers} convolutions run as popcounts ({', '.join(proof.kernels)} in "
        "the runtime's own graph); each gave the network's sums bit for bit on a real picture, and "
        f"the whole gave the network's outputs within {proof.difference:.1e} of their deviation.",
        f"binarize: the real layers are in {rest}; the deployed file agrees within "
        f"{difference:.1e} with its graph in onnxruntime.",
        f"binarize: {weights:,} weights are stored as bits: {weights / 8e6:.3g} MB, "
        f"{weights * 4 / 1e6:.3g} MB in float32.",
    )


def _decisions(candidate: Candidate, threads: int) -> list[Decision]:
    """What each binary layer takes on this machine, beside int8 and float32."""
    shapes = binary_shapes(candidate)
    fastest = limits(threads)["binary"]
    seconds = layer_seconds(list(shapes.values()), threads)
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
