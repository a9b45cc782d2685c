"""What TensorBoard and MLflow are told of a run, read back from what they wrote."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from compress.cascade.recipe import load_any
from compress.report.run import run_and_report
from compress.report.tracking import Tracker, epochs_to, tracked, tracker_named
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from tests.conftest import tiny_recipe
from tests.result_factory import result

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed"
)


def tell(tracker: Tracker, out: Path, recipe: Any) -> None:
    """Train two epochs of a stage, and finish with one row."""
    progress = Progress(Console(quiet=True), on_epoch=epochs_to(tracker, recipe.name))
    with progress.tree({"k": "teacher: train (50 %)"}):
        progress.stage("k", "running")
        progress.epoch(1, 2, 0.5, 0.25, 100.0, 1.0)
        progress.epoch(2, 2, 0.25, None, 200.0, 1.0)
    row = result("student")
    file, folder = out / row.artifact.path, out / "reports" / recipe.name
    for path, text in ((file, "weights"), (folder / "report.md", "# said"), (folder / "a.csv", "")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tracked(lambda *_: None, tracker, out, "reports")(recipe, [row], [])


@pytest.fixture
def recipe(write_recipe: Any, shapes: Path) -> Any:
    return load_any(write_recipe(tiny_recipe(shapes))).asked


def test_tensorboard_has_curves_rows_and_the_report(tmp_path: Path, recipe: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracker_named("tensorboard", "tiny", tmp_path / "runs") as tracker:
        tell(tracker, tmp_path, recipe)
    read = EventAccumulator(str(tmp_path / "runs" / "tensorboard"))
    read.Reload()
    plain = {re.sub("[^/a-z]+", " ", tag): tag for tag in read.Tags()["scalars"]}
    stage, row = f"{recipe.name}/teacher train ", f"{recipe.name}/student in onnxruntime"
    losses = [(x.step, x.value) for x in read.Scalars(plain[f"{stage}/loss"])]
    assert losses == [(1, 0.5), (2, 0.25)]
    assert [x.step for x in read.Scalars(plain[f"{stage}/validation"])] == [1]
    assert read.Scalars(plain[f"{row}/speedup"])[0].value == 10
    texts = read.Tags()["tensors"]
    assert any("report" in tag for tag in texts) and any("file" in tag for tag in texts)


@needs_mlflow
def test_mlflow_has_metrics_and_artifacts(
    tmp_path: Path, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tracker_named("mlflow", "tiny", tmp_path) as tracker:
        tell(tracker, tmp_path, recipe)
    run = mlflow.last_active_run()
    stage = f"{recipe.name}/teacher_ train _50 __"
    client = mlflow.MlflowClient()
    losses = [
        (x.step, x.value) for x in client.get_metric_history(run.info.run_id, f"{stage}/loss")
    ]
    assert losses == [(1, 0.5), (2, 0.25)]
    assert run.data.metrics[f"{recipe.name}/student in onnxruntime/speedup"] == 10
    kept = [x.path for x in client.list_artifacts(run.info.run_id, f"{recipe.name}/report")]
    assert [Path(x).name for x in kept] == ["a.csv", "report.md"]
    assert run.info.status == "FINISHED" and run.info.run_name == "tiny"


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_library_is_said_with_what_installs_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    monkeypatch.delitem(sys.modules, f"compress.report.to_{kind}", raising=False)
    with pytest.raises(UserError, match=rf"--log {kind}: {kind} is not .*'compress\[{kind}\]'"):
        tracker_named(kind, "tiny", tmp_path)


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--log wandb: choose of tensorboard, mlflow"):
        tracker_named("wandb", "tiny", tmp_path)


@pytest.mark.slow
def test_a_run_is_told_from_its_first_epoch_to_its_report(
    tmp_path: Path, write_recipe: Any, shapes: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loaded = load_any(write_recipe(tiny_recipe(shapes)))
    run_and_report(loaded, tmp_path, Console(quiet=True), "compress run", log="tensorboard")
    name = loaded.asked.name
    read = EventAccumulator(str(tmp_path / "runs" / name / "tensorboard"))
    read.Reload()
    tags = read.Tags()["scalars"]
    assert any(tag.endswith("/loss") for tag in tags)
    assert any(tag.endswith("onnxruntime/latency_s") for tag in tags)
