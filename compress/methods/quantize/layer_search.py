"""Finds which layers int8 pays for, and makes the file: measured here, judged on images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from compress.export.int8 import (
    Ranges,
    correct_biases,
    integer_operations,
    layers_of,
    quantize_file,
)
from compress.measure.file_shapes import file_layer_shapes
from compress.measure.latency import speedup
from compress.measure.layer_times import LayerShape
from compress.measure.module_shapes import layer_shapes
from compress.measure.processes import Timed, time_in_processes
from compress.methods.context import Context
from compress.models.candidate import Candidate
from compress.models.onnx_network import OnnxNetwork
from compress.models.sessions import infer
from compress.results.schema import Decision, StepReport
from compress.runtimes.onnxruntime import OnnxSession
from compress.runtimes.outputs import Outputs, joined
from compress.tasks.base import Task
from compress.utils.errors import UserError

SLOWER, FASTER = 0.99, 1.03  # times its float parent: below is slower, above is faster
PROCESSES, ROUNDS = 3, 20
BATCH = 16


@dataclass(frozen=True)
class Judge:
    """Images, what makes records of answers to them, and what the float network answers."""

    images: np.ndarray
    task: Task[Any]
    records_of: Callable[[Outputs], list[Any]]
    outputs: Outputs
    threads: int

    @classmethod
    def of(
        cls,
        path: Path,
        images: np.ndarray,
        task: Task[Any],
        records_of: Callable[[Outputs], list[Any]],
        threads: int,
    ) -> "Judge":
        """Return the judge that knows what the float network in a file answers."""
        return cls(images, task, records_of, _outputs(path, images, task, threads), threads)

    def drop(self, path: Path) -> float:
        """Return what the file loses against the float network, in the task's own number."""
        now = _outputs(path, self.images, self.task, self.threads)
        return self._judged(self.outputs) - self._judged(now)

    def _judged(self, outputs: Outputs) -> float:
        return float(
            self.task.statistic(self.records_of(outputs), np.ones((1, len(self.images))))[0]
        )

    def error(self, path: Path, count: int = 64) -> float:
        """Return the mean squared difference of the outputs, as a fraction of their variance.

        Of several outputs, the mean of the fractions.
        """
        now = _outputs(path, self.images[:count], self.task, self.threads)
        before = {name: output[:count] for name, output in self.outputs.items()}
        return float(np.mean([((now[x] - y) ** 2).mean() / y.var() for x, y in before.items()]))


def _outputs(
    path: Path, images: np.ndarray, task: Task[Any], threads: int
) -> dict[str, np.ndarray]:
    session, spec = OnnxSession(path, threads), task.spec
    return joined(
        [infer(session, images[i : i + BATCH], spec) for i in range(0, len(images), BATCH)]
    )


@dataclass(frozen=True)
class MadeOf:
    """The float network and file that an int8 file is made of, and what it may lose.

    Args:
        keep_float: of layers' names, those the user wants in float.
        max_drop: of right answers on the judge's images, against the float file.
        portable: as of `quantize_model`.
        shifts: as of `bias_shifts`, of layers in int8 to be taken off their biases.
    """

    candidate: Candidate
    file: Path
    ranges: Ranges
    judge: Judge
    keep_float: Callable[[Sequence[str]], list[str]]
    max_drop: float
    portable: bool
    shifts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def write(self, out: Path, floats: Collection[str]) -> Path:
        """Write the int8 file with these nodes left in float."""
        rounded = {node: x for node, x in self.shifts.items() if node not in floats}
        with TemporaryDirectory() as folder:
            file = self.file
            if rounded:
                file = Path(folder) / "corrected.onnx"
                correct_biases(self.file, file, rounded)
            quantize_file(file, out, self.ranges, floats, self.portable)
        return out


@dataclass(frozen=True)
class Found:
    """What came of it: the report, and why the file should not be used, if so."""

    report: StepReport
    dropped: str | None


def choose_float_layers(
    made_of: MadeOf, folder: Path, context: Context
) -> tuple[list[str], list[str]]:
    """Find the layers that are better left in float: the fastest file that loses little enough.

    Args:
        folder: for the files that are tried.

    Returns:
        Names of nodes, in the order of the file, and what was tried, in sentences.

    Raises:
        UserError: no layer is left that could be in int8.
    """
    layers = _layers(made_of)
    choices = _choices(layers, _asked_for(layers, made_of), context)
    if not choices:
        raise UserError(
            "quantize: float_layers names every layer that could be in int8: name fewer."
            if layers
            else "quantize: the network has no layer that could be in int8."
        )

    def build(floats: Collection[str], name: str) -> Path:
        return made_of.write(folder / f".{name}.onnx", floats)

    try:
        files = {name: build(floats, name) for name, floats in choices.items()}
        ratios = _faster(made_of.file, files, context)
        tried = "; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        notes = [f"quantize: times as fast as its float parent: {tried}."]
        best = max(ratios, key=lambda name: ratios[name])
        floats = set(choices[best])
        context.progress.note(notes[-1])
        if made_of.judge.drop(files[best]) > made_of.max_drop:
            floats = _repair(floats, layers, build, made_of, context)
            notes.append(f"quantize: {len(floats)} layers are back in float to keep the accuracy.")
    finally:
        for left in folder.glob(".*.onnx"):
            left.unlink()
    return [node for node in layers if node in floats], notes


def make_int8(made_of: MadeOf, floats: Collection[str], out: Path, context: Context) -> Found:
    """Write the int8 file with these layers left in float; measure here what it gains and loses.

    Args:
        floats: names of nodes, as `choose_float_layers` found them here or on another machine.
    """
    layers = _layers(made_of)
    made_of.write(out, floats)
    ratio = _faster(made_of.file, {"": out}, context)[""]
    drop = made_of.judge.drop(out)
    integers, islands = integer_operations(out)
    notes = []
    unexpected = len(islands) - len(floats)
    if unexpected > 0:
        notes.append(
            f"quantize: onnxruntime computes {unexpected} of the int8 layers in float: "
            f"{', '.join(islands[:3])}."
        )
    word = made_of.judge.task.word
    notes.append(
        f"quantize: {len(integers)} operations run in integers, {len(islands)} in float, read from "
        f"onnxruntime's own graph; on {len(made_of.judge.images)} training images the file "
        f"loses {100 * drop:.2f} points of {word} against float, and it is {ratio:.2f} times as "
        "fast as its float parent."
    )
    if SLOWER <= ratio < FASTER:
        share = out.stat().st_size / made_of.file.stat().st_size
        notes.append(f"quantize: all that int8 gains is size: {share:.0%} of the bytes.")
    if made_of.portable:
        notes.append(
            "quantize: 7-bit weights: right on CPUs without VNNI too; speed was measured on this "
            "CPU only."
        )
    else:
        notes.append(f"quantize: {_not_portable(context.machine.has_vnni)}")
    decisions = _decisions(layers, floats, _asked_for(layers, made_of), context)
    return Found(
        StepReport(step="quantize", decisions=decisions, notes=notes),
        _why_dropped(ratio, drop, made_of.max_drop, len(integers), word),
    )


def _asked_for(layers: "dict[str, _Layer]", made_of: MadeOf) -> set[str]:
    """Return the nodes of the layers that the user wants in float."""
    wanted = set(made_of.keep_float([layer.name for layer in layers.values()]))
    return {node for node, layer in layers.items() if layer.name in wanted}


def _not_portable(has_vnni: bool) -> str:
    if has_vnni:
        return (
            "8-bit weights: speed and accuracy are those of this CPU only. On x86 CPUs without "
            "VNNI 16-bit sums saturate and answers change: leave portable on for files that travel."
        )
    return (
        "8-bit weights on a CPU without VNNI: this file's 16-bit sums saturate here, its answers "
        "are not what its numbers say. Leave out portable: false."
    )


def _why_dropped(
    ratio: float, drop: float, max_drop: float, integers: int, word: str
) -> str | None:
    if integers == 0:
        return "No layer is left in int8: every one had to go back to float."
    if ratio < SLOWER:
        return (
            f"The int8 file is slower than the float file it was made of: {ratio:.2f} times as "
            "fast, whichever layers are left in float."
        )
    if drop > max_drop:
        return (
            f"The int8 file loses {100 * drop:.1f} points of {word} against its float parent on "
            f"training images, {100 * max_drop:.1f} are allowed."
        )
    return None


@dataclass(frozen=True)
class _Layer:
    name: str  # of the module in torch
    shape: LayerShape | None  # None: not one that the table knows


def _layers(made_of: MadeOf) -> dict[str, _Layer]:
    """The file's layers by node name, with the module each came from and its shape."""
    import torch

    candidate, float_file = made_of.candidate, made_of.file
    if isinstance(candidate.model, OnnxNetwork):
        known = file_layer_shapes(float_file)
        return {node: _Layer(node, known.get(node)) for node in layers_of(float_file)}
    spec = candidate.spec
    shapes = layer_shapes(candidate.model.eval(), torch.zeros(1, *spec.shape))
    # The exporter names a layer's weight as torch does, also where a batch norm was folded into it.
    modules = {
        node.name: node.input[1].removesuffix(".weight")
        for node in onnx.load(float_file).graph.node
        if len(node.input) > 1
    }
    return {
        node: _Layer(modules.get(node, node), shapes.get(modules.get(node, "")))
        for node in layers_of(float_file)
    }


def _choices(
    layers: dict[str, _Layer], user: set[str], context: Context
) -> dict[str, frozenset[str]]:
    """Sets of layers that stay in float, to be measured whole.

    All in int8 is best for networks of large convolutions; small ones lose more by converting
    between the two than they gain.
    """
    times = context.layer_times()
    slower, depthwise, convolutions = set(), set(), set()
    for node, layer in layers.items():
        if layer.shape is None:
            continue
        if layer.shape.is_depthwise:
            depthwise.add(node)
        if not layer.shape.is_linear:
            convolutions.add(node)
        before, after = times.seconds((layer.shape,)), times.seconds((layer.shape,), int8=True)
        if after >= before:
            slower.add(node)
    found = {
        "all layers in int8": frozenset(user),
        "depthwise layers in float": frozenset(user | depthwise),
        "layers in int8 that gain alone": frozenset(user | slower),
        "linear layers in int8": frozenset(user | convolutions),
    }
    unique: dict[frozenset[str], str] = {}
    for name, floats in found.items():
        if len(floats) < len(layers):
            unique.setdefault(floats, name)
    return {name: floats for floats, name in unique.items()}


def _faster(float_file: Path, files: dict[str, Path], context: Context) -> dict[str, float]:
    """How many times faster than the float file each is, all interleaved."""
    timed = time_in_processes(
        {name: Timed(path, "onnxruntime") for name, path in {"": float_file, **files}.items()},
        {1: ROUNDS},
        context.threads,
        PROCESSES,
        note=context.progress.note,
    )
    return {
        name: speedup("float", "onnxruntime", timed[""][0], timed[name][0]).ratio.value
        for name in files
    }


def _repair(
    floats: set[str],
    layers: dict[str, _Layer],
    build: Callable[[Collection[str], str], Path],
    made_of: MadeOf,
    context: Context,
) -> set[str]:
    """Puts layers back to float until no more than `max_drop` is lost.

    The first to go is the one that loses most for the time it saves: the error of the outputs with
    this layer alone in int8, over the seconds that int8 saves in it.
    """
    times = context.layer_times()
    inside = [node for node in layers if node not in floats]
    worth = {}
    for number, node in enumerate(inside):
        error = made_of.judge.error(build(set(layers) - {node}, "one"))
        shape = layers[node].shape
        saved = 1e-9
        if shape is not None:
            saved = max(1e-9, times.seconds((shape,)) - times.seconds((shape,), int8=True))
        worth[node] = error / saved
        context.progress.advance(number + 1, len(inside))
    order = sorted(inside, key=lambda node: -worth[node])

    def loses_too_much(count: int) -> bool:
        file = build(floats | set(order[:count]), "trial")
        return made_of.judge.drop(file) > made_of.max_drop

    # Doubling finds a sufficient number with few trials, halving the least one after it.
    least, most = 0, 1
    while most < len(order) and loses_too_much(most):
        least, most = most, min(2 * most, len(order))
    while most - least > 1:
        middle = (least + most) // 2
        if loses_too_much(middle):
            least = middle
        else:
            most = middle
    return floats | set(order[:most])


def _decisions(
    layers: dict[str, _Layer], floats: Collection[str], user: set[str], context: Context
) -> list[Decision]:
    times = context.layer_times()
    decisions = []
    for node, layer in layers.items():
        kept = node not in floats
        shape = layer.shape
        reason = "asked for" if node in user else "int8 does not pay here, or costs accuracy"
        decisions.append(
            Decision(
                layer=layer.name,
                change="int8",
                before_s=times.seconds((shape,)) if shape else None,
                after_s=times.seconds((shape,), int8=True) if shape else None,
                kept=kept,
                reason="" if kept else f"float: {reason}",
            )
        )
    return decisions
