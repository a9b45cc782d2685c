"""How fast anything at all can be: the time of a network that does nothing."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from compress.measure.latency import speedup
from compress.measure.processes import Timed, time_in_processes
from compress.results.schema import Result

PROCESSES, ROUNDS = 3, 20


def ceilings(
    teacher: Sequence[Result], out: Path, threads: int, allowed: Sequence[str] = ()
) -> dict[str, float]:
    """Return how many times faster than the teacher no network at all is, in each runtime.

    That network takes the teacher's image and gives its mean: what is left is what the runtime
    needs to be called.

    Args:
        teacher: its rows, whose files lie below `out`.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.onnx"
        for row in teacher:
            if row.artifact.runtime == "torch":
                continue
            onnx.save(_nothing(row), nothing)
            models = {
                "teacher": Timed(out / row.artifact.path, row.artifact.runtime),
                "nothing": Timed(nothing, row.artifact.runtime),
            }
            timed = time_in_processes(models, {1: ROUNDS}, threads, PROCESSES, allowed)
            ratio = speedup(
                "teacher", row.artifact.runtime, timed["teacher"][0], timed["nothing"][0]
            )
            found[row.artifact.runtime] = ratio.ratio.value
    return found


def _nothing(row: Result) -> onnx.ModelProto:
    """Return a file that takes an image as large as the teacher's and gives its mean."""
    shape: list[str | int] = ["batch", 3, row.artifact.input_height, row.artifact.input_width]
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["mean"])],
        "nothing",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3, 1, 1])],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)
