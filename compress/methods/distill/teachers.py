"""Whoever teaches: the recipe's teacher, another candidate, or several by their mean answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.methods.context import Context, StepInputs
from compress.methods.distill.settings import Distillation
from compress.methods.distill.teacher_cache import CachedTeacher, make_online
from compress.models.candidate import Candidate
from compress.tasks import task_of
from compress.tasks.base import Task, TensorOutputs
from compress.training.batches import Batch
from compress.training.objectives import Teacher


@dataclass(frozen=True)
class Average:
    """Several teachers as one: of logits, those of their mean probabilities."""

    teachers: Sequence[Teacher]
    task: Task[Any]

    @property
    def sees_mixed(self) -> bool:
        """Whether they are shown mixed images: all are, or none."""
        return self.teachers[0].sees_mixed

    def __call__(self, batch: Batch) -> TensorOutputs:
        """Return their mean outputs for a batch, float32 (n, …)."""
        given = [teacher(batch) for teacher in self.teachers]
        stacked = {name: torch.stack([x[name] for x in given]) for name in given[0]}
        return {name: self._mean(name, outputs) for name, outputs in stacked.items()}

    def _mean(self, name: str, outputs: Tensor) -> Tensor:
        """Return the mean over the first axis (teachers, n, …)."""
        if name != self.task.logits:
            return outputs.mean(0)
        if self.task.probabilities == "sigmoid":
            yes, no = F.logsigmoid(outputs), F.logsigmoid(-outputs)
            return yes.logsumexp(0) - no.logsumexp(0)
        log_p = outputs.log_softmax(-1)
        return log_p.logsumexp(0) - torch.log(torch.tensor(float(len(outputs))))


def whoever_teaches(
    settings: Distillation, inputs: StepInputs, context: Context
) -> tuple[Teacher, CachedTeacher | None]:
    """Return what answers for a batch, and the cached teacher where it is one alone."""
    spec = inputs.teacher.spec
    if inputs.teacher_outputs:
        cached = [CachedTeacher.load(folder, spec) for folder in inputs.teacher_outputs]
        if len(cached) == 1:
            return cached[0], cached[0]
        return Average(cached, task_of(spec)), None
    networks = [Candidate.load(folder, inputs.allowed) for folder in inputs.taught_by]
    online = [
        make_online(
            network,
            inputs.pixels,
            settings.train.augmentation,
            context.device,
            settings.teacher_precision,
        )
        for network in networks or [inputs.teacher]
    ]
    return online[0] if len(online) == 1 else Average(online, task_of(spec)), None
