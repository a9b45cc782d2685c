"""Where a deployed file lies, as its row says it."""

import json
from pathlib import Path

import onnx
import pytest

from compress.cli.choose import _locate
from compress.data.input_spec import METADATA_KEY
from compress.export.artifact import Artifact, _relative, spec_of
from compress.utils.errors import UserError
from tests.onnx_graphs import classifier
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


def test_a_mean_on_the_scale_of_bytes_is_refused(tmp_path: Path) -> None:
    model, spec_file = classifier(tmp_path / "a.onnx"), tmp_path / "spec.json"
    of_bytes = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    given = {"height": 32, "width": 32, "classes": ["a", "b", "c"]} | of_bytes
    spec_file.write_text(json.dumps(given))
    with pytest.raises(UserError, match=r"spec\.json: mean .* on the scale of bytes: .* by 255"):
        spec_of(model, spec_file)
    noted = onnx.load(model)
    onnx.helper.set_model_props(noted, {METADATA_KEY: json.dumps(given)})
    onnx.save(noted, model)
    with pytest.raises(UserError, match=r"metadata compress\.input of .* on the scale of bytes"):
        spec_of(model)
    right = {key: [x / 255 for x in values] for key, values in of_bytes.items()}
    spec_file.write_text(json.dumps(given | right))
    assert spec_of(model, spec_file).mean == pytest.approx((0.485, 0.456, 0.406))
