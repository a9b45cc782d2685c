"""Trains a network on the teacher's answers: `distill`, and training for int8."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from compress.methods.context import Context, StepInputs
from compress.methods.distill import attention
from compress.methods.distill.settings import Distillation, Learning, Unlabelled
from compress.methods.distill.teacher_cache import CachedTeacher
from compress.methods.distill.teachers import whoever_teaches
from compress.methods.distill.unlabelled import BesideLabelled, Sharpened, kept
from compress.models.candidate import Candidate
from compress.results.schema import PseudoLabels, Training
from compress.tasks import task_of
from compress.tasks.base import Task, TensorOutputs
from compress.training.batches import Batch, ImageFeed, draw_bank
from compress.training.loop import Objective, train
from compress.training.objectives import MatchTeacher, label_objective


def distil(
    student: Candidate,
    settings: Distillation,
    inputs: StepInputs,
    context: Context,
    how: str,
    from_teacher: bool = True,
) -> Training:
    """Trains `student.model` in place, from the teacher's outputs or as a control from the labels.

    An epoch has as many images for the control as for the distilled student, whose pool is
    larger where unlabelled images join in: both take the same number of steps. The control sees
    fresh views each epoch, as plain training would: it has no use for stored ones.
    """
    data, config = inputs.data, settings.train
    with ExitStack() as while_training:
        objective: Objective
        if not from_teacher:
            objective, pseudo_labels = _labels(student, settings, context.seed), None
            sure = data.indices("unlabelled")
        elif isinstance(settings.unlabelled, Unlabelled):
            objective, sure, pseudo_labels = _beside(student, settings, inputs, context)
        else:
            objective = _match_teacher(student, settings, inputs, context, while_training)
            sure, pseudo_labels = data.indices("unlabelled"), None
        feed = _feed(student, settings, inputs, context, from_teacher, sure)
        history = train(
            student.model,
            feed,
            objective,
            config,
            inputs.folder,
            context.progress,
            settings.head_modules,
        )
    labelled = data.indices("train")
    learned_from = len(sure) if feed.beside is not None else len(feed.pool) - len(labelled)
    return Training(
        description=_described(settings, how, feed) if from_teacher else "labels only, fresh views",
        labelled_images=len(labelled),
        unlabelled_images=learned_from,
        pseudo_labels=pseudo_labels,
        precision=config.precision,
        machine=context.processor,
        seconds=sum(epoch.seconds for epoch in history),
        epochs=history,
    )


def _labels(student: Candidate, settings: Distillation, seed: int) -> Objective:
    """Return the labels' own loss, with a margin where the settings name one."""
    margin = settings.margin if isinstance(settings, Learning) else None
    return label_objective(student.spec, settings.train, seed, margin)


def _feed(
    student: Candidate,
    settings: Distillation,
    inputs: StepInputs,
    context: Context,
    from_teacher: bool,
    unlabelled: np.ndarray,
) -> ImageFeed:
    """Return the batches: an epoch of a control has as many steps as one of its student.

    Args:
        unlabelled: positions of the images without labels that may be learned from.
    """
    data, config = inputs.data, settings.train
    labelled, beside, share = data.indices("train"), None, 0.0
    pool = labelled
    if isinstance(settings.unlabelled, Unlabelled):
        beside, share = unlabelled, settings.unlabelled.share
    elif settings.unlabelled:
        pool = data.indices("train", "unlabelled")
    of_views = settings.teacher_outputs == "cached" and not share
    bank = draw_bank(settings.views, len(data.images), config.augmentation, context.seed)
    feed = ImageFeed(
        data=data,
        pixels=inputs.pixels,
        spec=student.spec,
        settings=config,
        pool=pool,
        images_per_epoch=len(pool),
        seed=context.seed,
        device=context.device,
        bank=bank if of_views else None,
        beside=beside,
        beside_share=share,
    )
    return feed if from_teacher else _of_labels(feed, labelled)


def _of_labels(feed: ImageFeed, labelled: np.ndarray) -> ImageFeed:
    """Return as many steps, of batches as large, of labelled images alone in fresh views.

    Args:
        labelled: their positions.
    """
    together = feed.images_per_epoch if feed.beside is None else feed.steps * feed.batch_size
    return replace(
        feed, pool=labelled, images_per_epoch=together, bank=None, beside=None, beside_share=0.0
    )


def _described(settings: Distillation, how: str, feed: ImageFeed) -> str:
    """Return in words what was learned from: "distil kd (temperature 4), 8 cached views"."""
    loss = settings.loss.model_dump(exclude={"name"})
    if detail := ", ".join(f"{k} {v:g}" for k, v in loss.items()):
        how = f"{how} ({detail})"
    if feed.beside is not None:
        return f"{how}, the teacher's answers to images as they are, fresh views"
    if feed.bank is not None:
        return f"{how}, {settings.views} cached views"
    return f"{how}, fresh views, teacher run online"


def _beside(
    student: Candidate, settings: Distillation, inputs: StepInputs, context: Context
) -> tuple[Objective, np.ndarray, PseudoLabels]:
    """Return what is learned of labelled and unlabelled images, and which of the latter count."""
    assert isinstance(settings.unlabelled, Unlabelled)
    task = task_of(student.spec)
    assert task.logits is not None
    teacher, _ = whoever_teaches(settings, inputs, context)
    sure, facts = kept(teacher, inputs.data, task_of(inputs.teacher.spec), settings.unlabelled)
    context.progress.note(facts.described)
    soft = task.teacher_loss(settings.loss)
    hard = _labels(student, settings, context.seed)
    is_labelled = np.zeros(len(inputs.data.images), dtype=bool)
    is_labelled[inputs.data.indices("train")] = True
    sharp = Sharpened(teacher, task.logits, settings.unlabelled.temperature)
    of_labelled = MatchTeacher(teacher, soft, settings.hard_weight, hard)
    return BesideLabelled(of_labelled, soft, sharp, is_labelled), sure, facts


def _match_teacher(
    student: Candidate,
    settings: Distillation,
    inputs: StepInputs,
    context: Context,
    while_training: ExitStack,
) -> Objective:
    """What the student is trained to do; it is watched where its attention counts."""
    soft = task_of(student.spec).teacher_loss(settings.loss)
    hard = _labels(student, settings, context.seed)
    teacher, cached = whoever_teaches(settings, inputs, context)
    match = MatchTeacher(teacher, soft, settings.hard_weight, hard)
    weight = settings.loss.attention
    if not weight:
        return match
    assert cached is not None, "attention is cached, and of one teacher"
    watch = while_training.enter_context(attention.watched(student))
    return MatchAttentionToo(match, cached, watch, weight)


@dataclass(frozen=True)
class MatchAttentionToo:
    """The same, and the student is to look where the teacher looks."""

    match: MatchTeacher
    teacher: CachedTeacher
    watch: attention.Watch
    weight: float

    @property
    def learned(self) -> nn.Module | None:
        """What learns in the labels' loss."""
        return self.match.learned

    def told(self, batch: Batch, task: Task[Any]) -> Tensor:
        """What the labels say, and the teacher."""
        return self.match.told(batch, task)

    def __call__(self, outputs: TensorOutputs, batch: Batch) -> Tensor:
        there = self.teacher.attention(batch)
        here = self.watch.attention((there.shape[1], there.shape[2]))
        return self.match(outputs, batch) + self.weight * attention.difference(here, there)
