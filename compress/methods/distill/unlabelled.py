"""Unlabelled images as labelled ones, by what a teacher says of them (Xie et al. 2020,
arXiv:1911.04252): those that it is sure of, its answer sharpened, beside the labelled ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.dataset import Dataset
from compress.methods.distill.settings import Unlabelled
from compress.results.schema import PseudoLabels
from compress.tasks.base import Task, TensorOutputs
from compress.training.batches import Batch
from compress.training.loop import Objective
from compress.training.objectives import Loss, Teacher, over_mix, part_of
from compress.utils.errors import UserError

BATCH = 256  # images whose cached answers are looked at together


def kept(
    teacher: Teacher, data: Dataset, task: Task[object], settings: Unlabelled
) -> tuple[np.ndarray, PseudoLabels]:
    """Return the positions of unlabelled images that the teacher is sure enough of, and the facts.

    Args:
        teacher: answers for the images as they are; its outputs stay what they are.

    Raises:
        UserError: there is none.
    """
    unlabelled = data.indices("unlabelled")
    sure = _confident(teacher, unlabelled, task, settings.min_confidence)
    judged = data.indices(data.watched)
    sure_judged = _confident(teacher, judged, task, settings.min_confidence)
    if not len(unlabelled):
        raise UserError("there are no unlabelled images: set unlabelled: false.")
    if not len(sure):
        raise UserError(
            f"none of {len(unlabelled)} unlabelled images is kept with min_confidence "
            f"{settings.min_confidence:g}: lower it, or set unlabelled: false."
        )
    right = None
    if len(sure_judged):
        answers = {k: v.numpy() for k, v in teacher(_batch(sure_judged)).items()}
        records = task.judge(data, sure_judged)(answers)
        right = float(task.statistic(records, np.ones((1, len(records))))[0])
    facts = PseudoLabels(
        kept=len(sure),
        of=len(unlabelled),
        min_confidence=settings.min_confidence,
        temperature=settings.temperature,
        validation_kept=len(sure_judged),
        validation_of=len(judged),
        validation_right=right,
    )
    return sure, facts


def _confident(
    teacher: Teacher, indices: np.ndarray, task: Task[object], least: float
) -> np.ndarray:
    """Return those of the positions whose most probable class is probable enough.

    Where an image has several labels, the one that the teacher is least sure of must be: that it is
    there, or that it is not.
    """
    assert task.logits is not None

    def sure(logits: Tensor) -> Tensor:
        if task.probabilities == "sigmoid":
            return logits.abs().sigmoid().amin(1)
        return logits.softmax(1).amax(1)

    found = [sure(teacher(_batch(part))[task.logits]).numpy() >= least for part in _parts(indices)]
    return indices[np.concatenate(found)] if found else indices


def _parts(indices: np.ndarray) -> Iterator[np.ndarray]:
    return (indices[start : start + BATCH] for start in range(0, len(indices), BATCH))


def _batch(indices: np.ndarray) -> Batch:
    """Images by their positions alone: their answers are cached."""
    return Batch(torch.empty(0), torch.empty(0), indices, np.zeros_like(indices), np.empty(0))


@dataclass(frozen=True)
class Sharpened:
    """A teacher whose logits are divided by a temperature; unlabelled images alone get that."""

    teacher: Teacher
    logits: str
    temperature: float
    sees_mixed: bool = False

    def __call__(self, batch: Batch) -> TensorOutputs:
        """Return the outputs for a batch, float32 (n, …)."""
        given = self.teacher(batch)
        return {**given, self.logits: given[self.logits] / self.temperature}


@dataclass(frozen=True)
class BesideLabelled:
    """The mean over a batch: of labelled images one objective, of unlabelled ones a teacher's."""

    labelled: Objective
    soft: Loss
    teacher: Teacher  # of the unlabelled ones
    is_labelled: np.ndarray  # bool, by position in the dataset

    @property
    def learned(self) -> nn.Module | None:
        """What learns in the loss of labelled images."""
        return self.labelled.learned

    def told(self, batch: Batch, task: Task[Any]) -> Tensor:
        """What the labels say, and the teacher."""
        return self.labelled.told(batch, task)

    def __call__(self, outputs: TensorOutputs, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return over_mix(lambda part: self._of(outputs, part), batch)

    def _of(self, outputs: TensorOutputs, batch: Batch) -> Tensor:
        """Return the loss of a batch that is not mixed."""
        known = torch.from_numpy(self.is_labelled[batch.indices])
        parts = []
        if bool(known.any()):
            loss = self.labelled(*part_of(outputs, batch, known))
            parts.append(loss * known.float().mean())
        if not bool(known.all()):
            theirs, rest = part_of(outputs, batch, ~known)
            loss = self.soft(theirs, self.teacher(rest), rest.targets)
            parts.append(loss * (~known).float().mean())
        return torch.stack(parts).sum()
