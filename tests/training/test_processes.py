"""Several processes train one network as torchrun starts them: the weights are those of one."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compress.models.checkpoint import load_tensors
from compress.training.processes import Processes
from compress.utils.errors import UserError
from tests.torchrun import torchrun

TRAIN = """
import sys
from pathlib import Path
from rich.console import Console
from compress.models.checkpoint import save_tensors
from compress.training.loop import train
from compress.training.objectives import label_objective
from compress.training.processes import processes
from compress.training.settings import TrainSettings
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from tests.training.small import feed_of, network_of

folder, norm = Path(sys.argv[1]), sys.argv[2]
settings = TrainSettings.model_validate({
    "epochs": int(sys.argv[3]), "batch_size": 8, "precision": "float32", "ema": 0.9,
    "head_only_epochs": 1, "warmup_epochs": 0, "cooldown_epochs": 0, "label_smoothing": 0.1,
})
model, feed = network_of(norm), feed_of(settings)
try:
    objective = label_objective(feed.task.spec, settings, 1)
    history = train(model, feed, objective, settings, folder, Progress(Console(quiet=True)))
except UserError as error:
    print(error)
    raise SystemExit(2)
assert processes().told(processes().rank) == 0
save_tensors(folder / f"weights-{processes().rank}.safetensors", model.state_dict(), {})
print([epoch.loss for epoch in history])
"""


def together(
    tmp_path: Path, count: int, norm: str = "group", epochs: int = 4, ends: int = 0
) -> list[str]:
    """Train in `count` processes, which end with this code; return what each printed."""
    with torchrun(count, tmp_path, TRAIN, str(tmp_path), norm, str(epochs)) as processes:
        said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [ends] * count, said
    return said


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path)[0]


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (loss,) = together(tmp_path / "one", 1)
    together(tmp_path / "two", 2, epochs=2)  # and resumed
    (tmp_path / "two" / "weights-1.safetensors").unlink()
    losses = together(tmp_path / "two", 2)
    assert losses[0] == losses[1]
    assert eval(losses[0]) == pytest.approx(eval(loss), abs=1e-5)
    expected = weights(tmp_path / "one" / "weights-0.safetensors")
    for rank in (0, 1):
        torch.testing.assert_close(
            weights(tmp_path / "two" / f"weights-{rank}.safetensors"), expected, rtol=0, atol=1e-5
        )


def test_batch_norms_are_refused_on_cpus_with_the_reason(tmp_path: Path) -> None:
    for said in together(tmp_path, 2, "batch", ends=2):
        assert said.startswith("body.1 is a batch norm: its statistics are of the whole batch")


def test_one_process_shares_nothing() -> None:
    alone = Processes()
    net = nn.BatchNorm2d(3)
    alone.refuse_norms(net, torch.device("cpu"), [])
    assert alone.joined(net) is net and alone.told(3) == 3
    assert alone.mean(2.0, torch.device("cpu")) == 2.0


def test_frozen_norms_may_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    Processes(0, 2).refuse_norms(model, torch.device("cpu"), [model[1]])
    with pytest.raises(UserError, match="freeze the norms"):
        Processes(0, 2).refuse_norms(model, torch.device("cpu"), [])
