"""What a network is trained to do: match labels, or a teacher."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.tasks import task_of
from compress.tasks.base import Task, TensorOutputs
from compress.tasks.margins import Margin
from compress.training.batches import Batch
from compress.training.loop import Objective
from compress.training.settings import TrainSettings
from compress.utils.seeding import torch_seed


class Teacher(Protocol):
    """What a teacher says of a batch's views, by name, (n, …).

    Attributes:
        sees_mixed: whether it is shown the mixed images, as the student is; a cached one is not.
    """

    @property
    def sees_mixed(self) -> bool: ...
    def __call__(self, batch: Batch) -> TensorOutputs: ...


# (student's outputs, teacher's, targets) -> scalar, the batch's mean
Loss = Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]


@dataclass(frozen=True)
class MatchLabels:
    """The loss that the labels ask for; one that learns is a module."""

    loss: Callable[[TensorOutputs, Tensor], Tensor]

    @property
    def learned(self) -> nn.Module | None:
        """The loss itself, where it is a module with weights."""
        if isinstance(self.loss, nn.Module) and next(self.loss.parameters(), None) is not None:
            return self.loss
        return None

    def told(self, batch: Batch, task: Task[Any]) -> Tensor:
        """What the labels say."""
        return task.told(batch.targets, None)

    def __call__(self, outputs: TensorOutputs, batch: Batch) -> Tensor:
        return over_mix(lambda part: self.loss(outputs, part.targets), batch)


def label_objective(
    spec: InputSpec, settings: TrainSettings, seed: int = 0, margin: Margin | None = None
) -> MatchLabels:
    """Return the loss that the labels ask for; what learns in it is drawn from the seed.

    Args:
        margin: by which the right class is to win, of a network with a head of cosines.
    """
    task, smoothing = task_of(spec), settings.label_smoothing
    if margin is not None:
        return MatchLabels(_with_margin(task, margin, smoothing))
    with torch_seed(seed, "loss"):
        return MatchLabels(task.label_loss(smoothing))


def _with_margin(
    task: Task[Any], margin: Margin, smoothing: float
) -> Callable[[TensorOutputs, Tensor], Tensor]:
    from compress.training.margins import with_margin

    assert task.logits is not None
    logits = task.logits
    return lambda outputs, targets: with_margin(outputs[logits], targets, margin, smoothing)


def over_mix(loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return the loss of a batch; of a mixed one those of images and of partners, weighed.

    Args:
        loss: of a batch that is not mixed.
    """
    if batch.mix is None:
        return loss(batch)
    images, partners = batch.parts()
    return batch.mix.weight * loss(images) + (1 - batch.mix.weight) * loss(partners)


@dataclass(frozen=True)
class MatchTeacher:
    """(1 - hard_weight) x distillation loss + hard_weight x the labels' own."""

    teacher: Teacher
    soft: Loss
    hard_weight: float
    hard: Objective

    @property
    def learned(self) -> nn.Module | None:
        """What learns in the labels' loss, where that counts."""
        return self.hard.learned if self.hard_weight > 0 else None

    def told(self, batch: Batch, task: Task[Any]) -> Tensor:
        """What the labels say, and the teacher; an online one is asked once more for that."""
        if self.hard_weight == 1:
            return self.hard.told(batch, task)
        return task.told(batch.targets, self.teacher(batch))

    def __call__(self, outputs: TensorOutputs, batch: Batch) -> Tensor:
        if self.hard_weight == 1:
            return self.hard(outputs, batch)
        seen = self.teacher(batch) if self.teacher.sees_mixed else None

        def soft(part: Batch) -> Tensor:
            given = self.teacher(part) if seen is None else seen
            return self.soft(outputs, given, part.targets)

        loss = over_mix(soft, batch)
        if self.hard_weight == 0:
            return loss
        return (1 - self.hard_weight) * loss + self.hard_weight * self.hard(outputs, batch)


def part_of(outputs: TensorOutputs, batch: Batch, chosen: Tensor) -> tuple[TensorOutputs, Batch]:
    """Return outputs and batch of some of its images.

    Args:
        chosen: bool (n,).
    """
    at = chosen.numpy()
    part = replace(
        batch,
        inputs=batch.inputs[chosen],
        targets=batch.targets[chosen],
        indices=batch.indices[at],
        view_numbers=batch.view_numbers[at],
        views=batch.views[at],
    )
    return {name: x[chosen] for name, x in outputs.items()}, part
