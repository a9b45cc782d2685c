"""How fast and how small anything at all can be: what a network that does nothing takes."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from compress.data.input_spec import InputSpec
from compress.export.artifact import spec_of
from compress.measure.latency import speedup
from compress.measure.memory import first_run
from compress.measure.processes import Timed, time_in_processes
from compress.utils.record import Record

PROCESSES, ROUNDS = 3, 20


class Ceiling(Record):
    """What no network at all takes in one runtime: nothing can be better."""

    speedup: float  # against the teacher in the same runtime, timed together
    latency_s: float
    max_memory_bytes: int


def ceilings(
    teacher: Path, runtimes: Sequence[str], threads: int, allowed: Sequence[str] = ()
) -> dict[str, Ceiling]:
    """Return what a network that does nothing takes in each runtime.

    That network takes the teacher's image and gives its mean: what is left is what the runtime
    needs to be called.

    Args:
        teacher: its deployed file; what it has learned does not matter.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.onnx"
        onnx.save(_nothing(spec_of(teacher)), nothing)
        for runtime in runtimes:
            models = {"teacher": Timed(teacher, runtime), "nothing": Timed(nothing, runtime)}
            timed = time_in_processes(models, {1: ROUNDS}, threads, PROCESSES, allowed)
            ratio = speedup("teacher", runtime, timed["teacher"][0], timed["nothing"][0])
            memory = first_run(nothing, runtime, threads, tuple(allowed))
            found[runtime] = Ceiling(
                speedup=ratio.ratio.value,
                latency_s=timed["nothing"][0].median_s,
                max_memory_bytes=memory.peak_memory_bytes,
            )
    return found


def _nothing(spec: InputSpec) -> onnx.ModelProto:
    """Return a file that takes an image as large as the teacher's and gives its mean."""
    shape: list[str | int] = ["batch", 3, spec.height, spec.width]
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["mean"])],
        "nothing",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3, 1, 1])],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)
