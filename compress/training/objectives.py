"""What a network is trained to do: match labels, or a teacher."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from compress.data.input_spec import InputSpec
from compress.training.batches import Batch
from compress.training.loop import Objective
from compress.training.settings import TrainSettings


@dataclass(frozen=True)
class Labels:
    """Cross entropy with the labels; unlabelled pictures do not count."""

    smoothing: float = 0.0

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        labelled = batch.labels >= 0
        if not bool(labelled.any()):
            return outputs.sum() * 0.0
        return F.cross_entropy(
            outputs[labelled], batch.labels[labelled], label_smoothing=self.smoothing
        )


def annotated_points(outputs: Tensor, batch: Batch) -> Tensor:
    """How far the coordinates are from the annotated ones; unlabelled pictures do not count."""
    labelled = batch.labels.isfinite().all(1)
    if not bool(labelled.any()):
        return outputs.sum() * 0.0
    return points(outputs[labelled], batch.labels[labelled])


def hard_objective(spec: InputSpec, settings: TrainSettings) -> Objective:
    """The loss that the labels ask for."""
    return annotated_points if spec.points else Labels(settings.label_smoothing)


@dataclass(frozen=True)
class MatchTeacher:
    """(1 - hard_weight) x distillation loss + hard_weight x the labels' own."""

    teacher: Callable[[Batch], Tensor]  # the teacher's outputs for the same views
    soft: Callable[[Tensor, Tensor, Tensor], Tensor]  # (student, teacher, labels) -> scalar
    hard_weight: float
    hard: Objective

    def __call__(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = self.soft(outputs, self.teacher(batch), batch.labels)
        if self.hard_weight == 0:
            return loss
        return (1 - self.hard_weight) * loss + self.hard_weight * self.hard(outputs, batch)


BETA = 0.02  # of the input's side


def points(found: Tensor, true: Tensor) -> Tensor:
    """Smooth L1 of coordinates (n, 2 x points) in input fractions; Girshick 2015, arXiv:1504.08083.

    Linear beyond BETA, so that a few wrong annotations do not rule; quadratic within it.
    """
    return F.smooth_l1_loss(found, true, beta=BETA)
