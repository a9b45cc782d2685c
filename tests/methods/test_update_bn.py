"""Batch norms measured anew: against NumPy, in a chain, and refused where there are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from torch import nn

from compress.methods.update_bn.statistics import measure, norms_of
from compress.models.checkpoint import load_tensors
from compress.recipe.load import load_recipe
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe
from tests.conftest import tiny_recipe


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 36, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5, affine=False),
    )  # fmt: skip


def test_statistics_are_the_means_of_the_batches() -> None:
    tested, batches = network(), [torch.randn(n, 3, 8, 8) * n for n in (8, 5, 2)]
    assert len(norms_of(tested)) == 3
    with torch.no_grad():
        maps = [tested[0](x).numpy() for x in batches]  # dropout sleeps
    measure(tested, batches)
    mean = np.mean([x.mean((0, 2, 3)) for x in maps], 0)
    variance = np.mean([x.var((0, 2, 3), ddof=1) for x in maps], 0)
    np.testing.assert_allclose(tested[2].running_mean.numpy(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tested[2].running_var.numpy(), variance, rtol=1e-4)


def test_what_follows_sees_batches_normalised_by_themselves() -> None:
    """As in training: the second norm's statistics are those behind the first one's batch."""
    tested, batch = network(), torch.randn(16, 3, 8, 8)
    measure(tested, [batch])
    x = tested[0](batch).detach().numpy()
    x = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    linear = tested[5]
    with torch.no_grad():
        behind = linear(torch.from_numpy(np.maximum(x, 0).reshape(16, -1))).numpy()
    np.testing.assert_allclose(tested[6].running_mean.numpy(), behind.mean(0), atol=1e-5)


def test_nothing_else_changes() -> None:
    tested, fresh = network(), network()
    measure(tested.train(), [torch.randn(4, 3, 8, 8)])
    assert not any(module.training for module in tested.modules())
    assert [norm.momentum for norm in norms_of(tested)] == [0.3, 0.1, 0.1]
    for name, value in fresh.named_parameters():
        assert torch.equal(value, tested.get_parameter(name)), name


def test_norms_without_statistics_are_none() -> None:
    assert not norms_of(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> tuple[Path, dict[str, Any]]:
    """A run's folder, and its rows in onnxruntime by candidate."""
    out = tmp_path_factory.mktemp("update_bn")
    recipe = tiny_recipe(shapes)
    recipe["teacher"]["train"]["epochs"] = 1
    (student,) = recipe["candidates"].pop("shufflenet_v2_x0_5")
    student["distill"]["train"]["epochs"] = 1
    recipe["candidates"] = {
        "student": [student],
        "student_bn": [student, {"update_bn": {}}],
        "pruned_bn_int8": [
            {"prune": {"ratio": 0.5, "images": 8}},
            {"update_bn": {"images": 3}},
            {"quantize": {"images": 8, "judged": 8, "max_drop_vs_float": 1}},
        ],
    }
    recipe["measure"] |= {"processes": 1, "batches": []}
    path = out / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    rows, *_ = run_recipe(load_recipe(path), out, Progress(Console(quiet=True)), "compress run")
    return out, {row.candidate: row for row in rows if row.artifact.runtime == "onnxruntime"}


def test_it_is_a_step_of_a_chain(finished: tuple[Path, dict[str, Any]]) -> None:
    out, rows = finished
    assert rows["student_bn"].lineage[-1].startswith("batch norms measured on")
    assert "batch norms measured on 3 training images" in rows["pruned_bn_int8"].lineage
    control = rows["student_bn (no teacher)"]
    assert control.lineage[-1] == rows["student_bn"].lineage[-1]  # it is the same, otherwise
    files = [out / rows[name].artifact.path for name in ("student", "student_bn")]
    assert files[0].read_bytes() != files[1].read_bytes()
    trained, measured = (
        load_tensors(out / "runs/stages" / _model_of(file.parent) / "model.safetensors")[0]
        for file in files
    )
    changed = {name for name in trained if not torch.equal(trained[name], measured[name])}
    assert changed and all(
        name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed
    )


def _model_of(export: Path) -> str:
    return str(yaml.safe_load((export / "stage.json").read_text())["inputs"]["model"])


def test_a_network_without_batch_norms_is_refused(shapes: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(shapes)
    recipe["teacher"] |= {"builder": "torchvision.models:vgg11", "settings": {}, "image_size": 32}
    recipe["candidates"] = {"measured": [{"update_bn": {}}]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match="update_bn: this network has no batch norms"):
        run_recipe(load_recipe(path), tmp_path, Progress(Console(quiet=True)), "compress run")
