"""The training loop: every network of every recipe is trained here.

After each epoch everything needed to go on is saved; a run killed at any moment goes on from its
last finished epoch and ends with the same weights as an undisturbed one (same machine, same
threads), since order, views and dropout are functions of the seed and the epoch, counted from the
first that any step has trained. On CUDA some backward passes (pooling) add in no fixed order: there
it ends as near as two runs do. Under `torchrun` several processes train one network, see
`processes.py`.

Between two steps, other runs on the machine may time what they have to time.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from compress.models.checkpoint import load_tensors, save_tensors, set_weights
from compress.models.head import head_of, last_layer
from compress.models.memory_format import laid_out, place
from compress.results.schema import Epoch
from compress.runtimes.outputs import by_name
from compress.tasks.base import Task, TensorOutputs
from compress.training.average import average_of, note_on, take_over
from compress.training.batches import Batch, Feed
from compress.training.groups import (
    add_learned,
    frozen,
    make_optimizer,
    set_learning_rate,
    train_mode,
)
from compress.training.mirrored import doubled
from compress.training.mixing import draw_mix
from compress.training.processes import Processes, processes
from compress.training.settings import TrainSettings
from compress.training.telling import tell
from compress.utils.alone import Turns
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.utils.seeding import generator, torch_seed

CHECKPOINT = "training.safetensors"
MAX_GRADIENT_NORM = 5.0


class Objective(Protocol):
    """A scalar loss of the network's outputs, by name (n, …), for a batch.

    Attributes:
        learned: what learns in the loss itself (a vector for each class, say), if anything does.
    """

    @property
    def learned(self) -> nn.Module | None: ...
    def told(self, batch: Batch, task: Task[Any]) -> Tensor:
        """Return what a network is told that sees what it is to answer, see `telling.py`."""
        ...

    def __call__(self, outputs: TensorOutputs, batch: Batch) -> Tensor: ...


def train(
    model: nn.Module,
    feed: Feed,
    objective: Objective,
    settings: TrainSettings,
    folder: Path,
    progress: Progress,
    head: Sequence[str] = (),
) -> list[Epoch]:
    """Trains `model` in place, resuming from `folder` if it holds a checkpoint.

    Args:
        head: modules that settings name the head; none: the last linear layer.

    Returns:
        One record an epoch. The weights are those of the last epoch, or their average where `ema`
        asks for it: choosing the best epoch on the validation split would flatter what is reported
        there.

    Raises:
        UserError: the loss became infinite or not a number; the checkpoint of the last good epoch
            stays in `folder`. Several processes cannot train it together.
    """
    others = processes()
    mirrors = settings.augmentation.mirror == "new_class"
    if head or mirrors or settings.head_only_epochs or settings.head_lr_factor != 1:
        head = head_of(model, head)
    with ExitStack() as while_training:
        turns = Turns(progress.note)
        if others.is_first:
            while_training.enter_context(turns)
        if mirrors:
            with torch_seed(feed.seed, "mirrored head"):
                while_training.enter_context(doubled(model, last_layer(model, head)))
        shown, _ = next(iter(feed.validation(settings.epochs_before)))
        layout = place(model, feed.device, shown, trains=True)
        others.join_norms(model, feed.device)
        still = while_training.enter_context(frozen(model, settings.freeze))
        others.refuse_norms(model, feed.device, still)
        optimizer = make_optimizer(model, settings, head)
        if objective.learned is not None:
            add_learned(optimizer, objective.learned.to(feed.device))
        averaged = None if settings.ema is None else average_of(model, settings.ema)
        training = _Training(
            model=model,
            feed=feed,
            objective=objective,
            settings=settings,
            optimizer=optimizer,
            scaler=torch.amp.GradScaler(feed.device.type, enabled=settings.precision == "float16"),
            layout=layout,
            head=tuple(head),
            still=still,
            learning={k: p for k, p in model.named_parameters() if p.requires_grad},
            averaged=averaged,
            others=others,
            turns=turns,
        )
        history = _epochs(training, folder, progress)
        if averaged is not None:
            take_over(model, averaged)
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
    head: tuple[str, ...]
    still: Sequence[nn.Module]
    learning: Mapping[str, nn.Parameter]
    averaged: AveragedModel | None
    turns: Turns
    others: Processes  # that train it, too


class _Answers(nn.Module):
    """A network in training that names what it gives."""

    def __init__(self, training: _Training) -> None:
        super().__init__()
        self.network = training.model
        self._task, self._precision = training.feed.task, training.settings.precision

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        with autocast(inputs.device, self._precision):
            given = self.network(inputs)
        return named_floats(given, self._task, training=True)


def _epochs(training: _Training, folder: Path, progress: Progress) -> list[Epoch]:
    """Train for all epochs that are left."""
    feed, settings = training.feed, training.settings
    history = _resume(folder / CHECKPOINT, training)
    if history:
        progress.note(f"resumed after epoch {len(history)} of {settings.epochs}")
    elif settings.ema is not None and (said := note_on(settings.ema, settings.epochs * feed.steps)):
        progress.note(said)
    judged_one = training.model if training.averaged is None else training.averaged.module
    begun = len(history)
    for epoch in range(begun, settings.epochs):
        started, waited_s = time.perf_counter(), training.turns.waited_s
        alone = training.head if epoch < settings.head_only_epochs else None
        train_mode(training.model, training.still, training.learning, alone)
        if epoch in (begun, settings.head_only_epochs):  # what learns is what is joined
            network = training.others.joined(_Answers(training))
        loss = _epoch(training, network, epoch, folder, progress)
        seconds = time.perf_counter() - started - (training.turns.waited_s - waited_s)
        last = Epoch(
            epoch=epoch + 1,
            loss=loss,
            validation_top1=judged(training, judged_one, settings.epochs_before + epoch),
            seconds=seconds,
            images_per_s=feed.steps * feed.batch_size / seconds,
        )
        history.append(last)
        if training.others.is_first:
            _save(folder / CHECKPOINT, training, history)
        progress.epoch(
            epoch + 1, settings.epochs, loss, last.validation_top1, last.images_per_s, seconds
        )
    return history


def _epoch(
    training: _Training, network: nn.Module, epoch: int, folder: Path, progress: Progress
) -> float:
    """Train for one epoch and return the mean loss of its steps.

    Args:
        network: gives the outputs by name.

    Raises:
        UserError: the loss, or the gradient, is no number any more.
    """
    feed, settings = training.feed, training.settings
    drawn_as = settings.epochs_before + epoch
    mix_rng = generator(feed.seed, "mixup", drawn_as)
    total_loss = 0.0
    rank = training.others.rank
    batches: Iterable[Batch] = map(training.others.share, feed.batches(drawn_as))
    if training.others.is_first:  # the others wait with it, and hold nobody up
        batches = training.turns.between(batches)
    with torch_seed(feed.seed, "dropout", drawn_as, *([rank] if rank else [])):
        for step, batch in enumerate(batches):
            lr = learning_rate(settings, epoch + step / feed.steps)
            set_learning_rate(training.optimizer, lr)
            mix = draw_mix(settings.mixup, settings.cutmix, len(batch.indices), mix_rng)
            batch = replace(batch, inputs=laid_out(batch.inputs, training.layout), mix=mix)
            loss = training.others.mean(_step(training, network, batch), feed.device)
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


def _step(training: _Training, network: nn.Module, batch: Batch) -> float:
    """Take one step and return its loss, or the gradient's norm where that is no number.

    Args:
        network: gives the outputs by name.
    """
    model, optimizer, scaler = training.model, training.optimizer, training.scaler
    loss = _loss(training, network, batch)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    training.others.average_gradients(training.objective.learned)
    scaler.unscale_(optimizer)
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = float(nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM))
    if not math.isfinite(norm) and not scaler.is_enabled():
        return norm  # a step with it would destroy the weights
    scaler.step(optimizer)  # leaves out a step whose scaled gradients overflow
    scaler.update()
    if training.averaged is not None:
        training.averaged.update_parameters(model)
    return float(loss.detach())


def _loss(training: _Training, network: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of a batch, of mixed images where the settings ask for that."""
    inputs = batch.inputs if batch.mix is None else batch.mix(batch.inputs)
    tell(training.model, batch, lambda: training.objective.told(batch, training.feed.task))
    # Losses, and a teacher that is asked within one, are computed outside of the autocast.
    return training.objective(network(inputs), batch)


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
    """Linear warm-up, then a cosine, or a constant that cools down; `epoch` is fractional."""
    if epoch < settings.warmup_epochs:
        return settings.lr * (epoch + 1e-3) / settings.warmup_epochs
    if settings.cooldown_epochs is not None:
        begun = epoch - (settings.epochs - settings.cooldown_epochs)
        return settings.lr * (1 - math.sqrt(max(begun, 0) / (settings.cooldown_epochs or 1)))
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (epoch - settings.warmup_epochs) / rest))


@torch.inference_mode()
def judged(training: _Training, model: nn.Module, epoch: int) -> float:
    """Return how the task judges the network in training on the validation images (top-1 where
    there are classes; points within the usual bounds): progress, not what is reported.

    Args:
        model: the network, or its average.
        epoch: as feeds count.
    """
    feed = training.feed
    model.eval()
    records: list[Any] = []
    for inputs, judge in training.turns.between(feed.validation(epoch)):
        with autocast(feed.device, training.settings.precision):
            outputs = model(laid_out(inputs, training.layout))
        named = named_floats(outputs, feed.task)
        records += judge({name: x.cpu().numpy() for name, x in named.items()})
    return float(feed.task.statistic(records, np.ones((1, len(records))))[0])


def _save(path: Path, training: _Training, history: list[Epoch]) -> None:
    tensors = {f"model.{k}": v for k, v in training.model.state_dict().items()}
    if training.averaged is not None:
        tensors |= {f"averaged.{k}": v for k, v in training.averaged.state_dict().items()}
    if training.objective.learned is not None:
        tensors |= {f"loss.{k}": v for k, v in training.objective.learned.state_dict().items()}
    for number, state in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
    scaler = training.scaler.state_dict()
    metadata = {"history": [epoch.model_dump() for epoch in history], "scaler": scaler}
    save_tensors(path, tensors, metadata)


def _resume(path: Path, training: _Training) -> list[Epoch]:
    if not path.is_file():
        return []
    tensors, metadata = load_tensors(path)

    def named(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    set_weights(training.model, named("model."))
    if training.averaged is not None:
        set_weights(training.averaged, named("averaged."))
    if training.objective.learned is not None:
        set_weights(training.objective.learned, named("loss."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in named("optimizer.").items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    optimizer = training.optimizer
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    if training.scaler.is_enabled():
        training.scaler.load_state_dict(metadata["scaler"])
    return [Epoch.model_validate(epoch) for epoch in metadata["history"]]
