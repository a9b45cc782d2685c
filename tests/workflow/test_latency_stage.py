"""The latency stage: what it is known by, and what lies in the folders of earlier runs."""

import json
from pathlib import Path

from compress.cascade import stage_latency as cascade_latency
from compress.measure.memory import FirstRun
from compress.recipe.schema import MeasureSettings
from compress.results.schema import Latency, RowKey
from compress.workflow.cache import Stage
from compress.workflow.planned_row import PlannedRow
from compress.workflow.stages import latency
from tests.result_factory import machine, result

ROWS = (
    RowKey("teacher", "torch"),
    RowKey("small in size", "openvino-bf16"),
    RowKey("small (no teacher)", "onnxruntime"),
)
TIMED = [x.model_dump() for x in result().latency]


def planned(row: RowKey) -> PlannedRow:
    stage = Stage("export", "", 1, {"of": row.candidate})
    return PlannedRow(row.candidate, "candidate", None, None, row.runtime, stage, stage, stage)


def test_a_stage_that_was_computed_before_is_used_again() -> None:
    stage = latency.plan(MeasureSettings(), machine(), 2, list(map(planned, ROWS)))
    assert list(stage.inputs) == [
        "teacher in torch",
        "small in size in openvino-bf16",
        "small (no teacher) in onnxruntime",
    ]
    assert stage.key == "0e345552fd2d0234"  # as before rows had key objects
    data = Stage("data", "", 1, {})
    judged = {row: Stage("cascade", "", 1, {"of": row.candidate}) for row in ROWS}
    pipelines = cascade_latency.plan(MeasureSettings(), machine(), 2, data, judged)
    assert list(pipelines.inputs) == ["data", *stage.inputs]
    assert pipelines.key == "9250cb2640bceb3f"  # version 6


def test_what_earlier_runs_left_is_read_by_key(tmp_path: Path) -> None:
    names = [f"{row.candidate} in {row.runtime}" for row in ROWS]
    first = {"peak_memory_bytes": 9, "cold_start_s": 0.5, "energy_j": None}
    record = {
        "measured_at": "2026-01-01",
        "latency": dict.fromkeys(names, TIMED),
        "first_run": dict.fromkeys(names, first),
    }
    (tmp_path / latency.FILE).write_text(json.dumps(record))
    found = latency.load(tmp_path)
    assert found.measured_at == "2026-01-01"
    assert found.latency == {key: [Latency.model_validate(x) for x in TIMED] for key in ROWS}
    assert found.first_run == dict.fromkeys(ROWS, FirstRun(9, 0.5, None))


def test_what_earlier_runs_left_of_pipelines_is_read_by_key(tmp_path: Path) -> None:
    record = {"measured_at": "2026-01-01", "latency": {"a + b in openvino": TIMED[0]}}
    (tmp_path / cascade_latency.FILE).write_text(json.dumps(record))
    found = cascade_latency.load(tmp_path)
    assert found.latency == {RowKey("a + b", "openvino"): Latency.model_validate(TIMED[0])}
