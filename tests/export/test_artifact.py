"""Where a deployed file lies, as its row says it."""

from pathlib import Path

from compress.cli.choose import _locate
from compress.export.artifact import Artifact, _relative
from tests.result_factory import result


def test_runs_may_lie_behind_a_link(tmp_path: Path) -> None:
    """Models are large: people put `runs` on another disk and leave a link."""
    stage = tmp_path / "disk" / "runs" / "stages" / "export-1"
    stage.mkdir(parents=True)
    (stage / "model.onnx").touch()
    project = tmp_path / "project"
    project.mkdir()
    (project / "runs").symlink_to(tmp_path / "disk" / "runs")
    record = {
        "path": "model.onnx", "sha256": "0", "size_bytes": 1, "parameters": 2, "macs": None,
        "uncounted_operations": [],
        "spec": {"height": 8, "width": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "classes": ["a"]},
    }  # fmt: skip
    (stage / "artifact.json").write_text(Artifact.model_validate(record).model_dump_json())
    artifact = Artifact.load(project / "runs" / "stages" / "export-1")
    path = artifact.facts(project, "onnxruntime").path
    assert path == "runs/stages/export-1/model.onnx"
    row = result("a")
    row = row.model_copy(update={"artifact": row.artifact.model_copy(update={"path": path})})
    found = _locate(row, [project / "runs" / "mine"])
    assert found is not None and found.samefile(stage / "model.onnx")
    elsewhere = tmp_path / "disk" / "a.onnx"  # not below: links are followed
    assert _relative(elsewhere, project) == ("..", "disk", "a.onnx")
