"""The training loop: every network of every recipe is trained here.

After each epoch everything needed to go on is saved; a run killed at any moment goes on from its
last finished epoch and ends with the same weights as an undisturbed one (same machine, same
threads), since order, views and dropout are functions of the seed and the epoch. On CUDA some
backward passes (pooling) add in no fixed order: there it ends as near as two runs do.
"""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from compress.models.checkpoint import load_tensors, save_tensors, set_weights
from compress.models.memory_format import laid_out, place
from compress.results.schema import Epoch
from compress.runtimes.outputs import by_name
from compress.tasks.base import Task, TensorOutputs
from compress.training.batches import Batch, Feed
from compress.training.settings import TrainSettings
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.utils.seeding import generator, torch_seed

CHECKPOINT = "training.safetensors"
MAX_GRADIENT_NORM = 5.0


class Objective(Protocol):
    """A scalar loss of the network's outputs, by name (n, …), for a batch."""

    def __call__(self, outputs: TensorOutputs, batch: Batch) -> Tensor: ...


def train(
    model: nn.Module,
    feed: Feed,
    objective: Objective,
    settings: TrainSettings,
    folder: Path,
    progress: Progress,
) -> list[Epoch]:
    """Trains `model` in place, resuming from `folder` if it holds a checkpoint.

    Returns:
        One record an epoch. The weights are those of the last epoch: choosing the best epoch on
        the validation split would flatter what is reported there.

    Raises:
        UserError: the loss became infinite or not a number; the checkpoint of the last good epoch
            stays in `folder`.
    """
    layout = place(model, feed.device, next(iter(feed.validation(0)))[0], trains=True)
    scaler = torch.amp.GradScaler(feed.device.type, enabled=settings.precision == "float16")
    optimizer = make_optimizer(model, settings)
    training = _Training(model, feed, objective, settings, optimizer, scaler, layout)
    history = _resume(folder / CHECKPOINT, model, optimizer, scaler)
    if history:
        progress.note(f"resumed after epoch {len(history)} of {settings.epochs}")
    for epoch in range(len(history), settings.epochs):
        started = time.perf_counter()
        loss = _epoch(training, epoch, folder, progress)
        seconds = time.perf_counter() - started
        last = Epoch(
            epoch=epoch + 1,
            loss=loss,
            validation_top1=judged(model, feed, epoch, settings.precision, layout),
            seconds=seconds,
            images_per_s=feed.steps * feed.batch_size / seconds,
        )
        history.append(last)
        _save(folder / CHECKPOINT, model, optimizer, scaler, history)
        progress.epoch(
            epoch + 1, settings.epochs, loss, last.validation_top1, last.images_per_s, seconds
        )
    return history


@dataclass(frozen=True)
class _Training:
    """What all steps share."""

    model: nn.Module
    feed: Feed
    objective: Objective
    settings: TrainSettings
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    layout: torch.memory_format


def _epoch(training: _Training, epoch: int, folder: Path, progress: Progress) -> float:
    """Train for one epoch and return the mean loss of its steps.

    Raises:
        UserError: the loss, or the gradient, is no number any more.
    """
    feed, settings = training.feed, training.settings
    training.model.train()
    mix_rng = generator(feed.seed, "mixup", epoch)
    total_loss = 0.0
    with torch_seed(feed.seed, "dropout", epoch):
        for step, batch in enumerate(feed.batches(epoch)):
            lr = learning_rate(settings, epoch + step / feed.steps)
            for group in training.optimizer.param_groups:
                group["lr"] = lr
            batch = replace(batch, inputs=laid_out(batch.inputs, training.layout))
            loss = _step(training, batch, mix_rng)
            if not math.isfinite(loss):
                raise UserError(
                    f"The loss or its gradient became {loss} at epoch {epoch + 1}, step "
                    f"{step + 1} of {feed.steps} (learning rate {lr:.2g}). Lower lr, lengthen "
                    f"warmup_epochs, or use precision: float32. {_kept(epoch, folder)}"
                )
            total_loss += loss
            progress.training(epoch, settings.epochs, step + 1, feed.steps, loss)
    return total_loss / feed.steps


def _kept(epoch: int, folder: Path) -> str:
    if epoch == 0:
        return "No epoch was finished."
    return f"The last good checkpoint, after epoch {epoch}, is kept in {folder}."


def finish(folder: Path) -> None:
    """Removes what only a resumed training would need, once its result is stored."""
    for file in (folder / CHECKPOINT, *folder.glob("features-*.npy")):
        file.unlink(missing_ok=True)


def _step(training: _Training, batch: Batch, mix_rng: np.random.Generator) -> float:
    """Take one step and return its loss, or the gradient's norm where that is no number."""
    model, optimizer, scaler = training.model, training.optimizer, training.scaler
    loss = _loss(training, batch, mix_rng)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = float(nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM))
    if not math.isfinite(norm) and not scaler.is_enabled():
        return norm  # a step with it would destroy the weights
    scaler.step(optimizer)  # leaves out a step whose scaled gradients overflow
    scaler.update()
    return float(loss.detach())


def _loss(training: _Training, batch: Batch, mix_rng: np.random.Generator) -> Tensor:
    """Return the loss of a batch, of mixed images where the settings ask for that."""
    settings, objective = training.settings, training.objective

    def outputs(inputs: Tensor) -> dict[str, Tensor]:
        with autocast(inputs.device, settings.precision):
            given = training.model(inputs)
        return named_floats(given, training.feed.task, training=True)

    # Losses, and a teacher that is asked within one, are computed outside of the autocast.
    if settings.mixup == 0:
        return objective(outputs(batch.inputs), batch)
    # Zhang et al. 2018, arXiv:1710.09412: one weight and one permutation a batch.
    weight = float(mix_rng.beta(settings.mixup, settings.mixup))
    order = torch.from_numpy(mix_rng.permutation(len(batch.indices))).to(batch.inputs.device)
    mixed = outputs(weight * batch.inputs + (1 - weight) * batch.inputs[order])
    partner = replace(batch, targets=batch.targets[order])
    return weight * objective(mixed, batch) + (1 - weight) * objective(mixed, partner)


def named_floats(given: Any, task: Task[Any], training: bool = False) -> dict[str, Tensor]:
    """Return what a network gives as its task's outputs by name, float32 (n, …).

    Args:
        training: whether it is in training mode; what heads give that it has then alone is left
            out.
    """
    return {name: x.float() for name, x in by_name(given, task.spec.outputs, training).items()}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Compute convolutions and matrix products in the precision; "auto" undecided is float32."""
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def learning_rate(settings: TrainSettings, epoch: float) -> float:
    """Linear warm-up, then a cosine to zero; `epoch` is fractional."""
    if epoch < settings.warmup_epochs:
        return settings.lr * (epoch + 1e-3) / settings.warmup_epochs
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (epoch - settings.warmup_epochs) / rest))


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; no weight decay on biases and norms."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, settings.lr)


@torch.inference_mode()
def judged(
    model: nn.Module, feed: Feed, epoch: int, precision: str, layout: torch.memory_format
) -> float:
    """Return how the task judges the network in training on the validation images (top-1 where
    there are classes; points within the usual bounds): progress, not what is reported."""
    model.eval()
    records: list[Any] = []
    for inputs, judge in feed.validation(epoch):
        with autocast(feed.device, precision):
            outputs = model(laid_out(inputs, layout))
        named = named_floats(outputs, feed.task)
        records += judge({name: x.cpu().numpy() for name, x in named.items()})
    return float(feed.task.statistic(records, np.ones((1, len(records))))[0])


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: list[Epoch],
) -> None:
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
    metadata = {"history": [epoch.model_dump() for epoch in history], "scaler": scaler.state_dict()}
    save_tensors(path, tensors, metadata)


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> list[Epoch]:
    if not path.is_file():
        return []
    tensors, metadata = load_tensors(path)
    set_weights(
        model, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    if scaler.is_enabled():
        scaler.load_state_dict(metadata["scaler"])
    return [Epoch.model_validate(epoch) for epoch in metadata["history"]]
