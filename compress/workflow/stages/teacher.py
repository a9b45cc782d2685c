"""Builds the teacher, gives it its weights, trains it where the recipe says so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from compress.data.dataset import Dataset
from compress.data.image_cache import Decoded
from compress.data.input_spec import normalise
from compress.methods.context import Context
from compress.models.builders import identity
from compress.models.candidate import Candidate
from compress.models.checkpoint import load_into, noted_in
from compress.models.own_input import noted_input
from compress.models.pretrained import Pretrained, converted
from compress.models.weight_names import fitted
from compress.models.weight_sources import TIMM, fingerprint, is_file
from compress.recipe.schema import TeacherSettings
from compress.results.schema import Training
from compress.tasks import task_of, task_of_data
from compress.training.batches import (
    FeatureFeed,
    Feed,
    ImageFeed,
    draw_bank,
    some_images,
)
from compress.training.cached_features import module_inputs
from compress.training.logits import refuse_fresh_probabilities, refuse_probabilities
from compress.training.loop import finish, train
from compress.training.objectives import label_objective
from compress.training.settings import TRAINING_VERSION, TrainSettings
from compress.utils.errors import UserError
from compress.workflow.cache import Stage
from compress.workflow.stages.teacher_input import notes_on, with_noted

VERSION = 1
JUDGED_IMAGES = 16  # whose answers show whether they are logits


def plan(
    settings: TeacherSettings, fit: str, seed: int, data: Stage, allowed: Sequence[str] = ()
) -> Stage:
    """The teacher stage; a weights file is known by its contents.

    Raises:
        UserError: no such file, or it notes a mean and std that cannot be right.
    """
    settings = taken(settings)
    described: dict[str, Any] = settings.in_key(exclude={"onnx", "licence", "source"})
    described |= {"fit": fit, "seed": seed}
    assert settings.builder is not None
    described["code"] = identity(settings.builder, allowed)
    described["training_version"] = TRAINING_VERSION
    if settings.weights is not None and is_file(settings.weights):
        path = Path(settings.weights)
        if not path.is_file():
            raise UserError(
                f"teacher.weights: no file at {path}. Give the path of a safetensors file relative "
                "to the recipe, or remove the line and add teacher.train to train from scratch."
            )
        described["weights"] = fingerprint(path)
    how = f"train {settings.train.epochs} epochs" if settings.train else "weights as given"
    return Stage(
        "teacher", f"teacher {settings.builder.rpartition(':')[2]}: {how}", VERSION, described,
        {"data": data}, run,
    )  # fmt: skip


def taken(settings: TeacherSettings) -> TeacherSettings:
    """Return the settings with what a file of weights notes of its images, where they say nothing.

    Raises:
        UserError: it notes a mean and std that cannot be right.
    """
    if settings.weights is None or not is_file(settings.weights):
        return settings
    path = Path(settings.weights)
    return with_noted(settings, noted_input(noted_in(path)), path.name)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    settings = TeacherSettings.from_key(stage.settings)
    data = context.data(inputs["data"])
    pixels = context.pixels(data, inputs["data"])
    spec = settings.input_spec(stage.settings["fit"], **task_of_data(data).predicts(data))
    assert settings.builder is not None
    name = settings.builder.rpartition(":")[2]
    teacher = Candidate.create(
        settings.builder, settings.settings, spec, (name,), context.seed, context.allowed
    )
    if settings.weights is None or settings.train_only is not None:
        refuse_fresh_probabilities(teacher)
    if settings.weights is not None:
        teacher = _with_weights(teacher, settings, data, pixels, context)
        spec = teacher.spec
    shown = data.indices("validation")[: 4 * JUDGED_IMAGES : 4]
    refuse_probabilities(teacher, normalise(pixels.of(shown, spec), spec))
    if settings.train is not None:
        teacher = _trained(teacher, settings, settings.train, data, pixels, folder, context)
    teacher.save(folder, stage.settings, inputs)
    finish(folder)


def _trained(
    teacher: Candidate,
    settings: TeacherSettings,
    config: TrainSettings,
    data: Dataset,
    pixels: Decoded,
    folder: Path,
    context: Context,
) -> Candidate:
    """Train the teacher, or its last part, on the labels; return it with its training told."""
    labelled, spec = data.indices("train"), teacher.spec
    if settings.train_only is not None:
        model, feed = _last_part(teacher, settings, data, pixels, folder, context)
    else:
        model = teacher.model
        feed = ImageFeed(
            data=data,
            pixels=pixels,
            spec=spec,
            settings=config,
            pool=labelled,
            images_per_epoch=len(labelled),
            seed=context.seed,
            device=context.device,
        )
    objective = label_objective(spec, config, context.seed)
    history = train(model, feed, objective, config, folder, context.progress)
    how = "from scratch" if settings.weights is None else "fine-tuned"
    if settings.train_only is not None:
        how = f"only {settings.train_only}"
    return teacher.trained(
        Training(
            description=f"labels, {how}",
            labelled_images=len(labelled),
            precision=config.precision,
            machine=context.processor,
            seconds=sum(epoch.seconds for epoch in history),
            epochs=history,
        )
    )


def _last_part(
    teacher: Candidate,
    settings: TeacherSettings,
    data: Dataset,
    pixels: Decoded,
    folder: Path,
    context: Context,
) -> tuple[nn.Module, Feed]:
    """The module that is trained alone, and its inputs for stored views of labelled images."""
    assert settings.train_only is not None and settings.train is not None
    labelled, watched = data.indices("train", data.watched), data.indices(data.watched)
    views = draw_bank(settings.views, len(data.images), settings.train.augmentation, context.seed)
    features = module_inputs(
        teacher,
        settings.train_only,
        settings.train,
        labelled,
        views,
        pixels,
        folder,
        context.device,
        context.progress.advance,
    )
    task = task_of(teacher.spec)
    targets = task.targets(data)[labelled]

    def in_view(view: np.ndarray) -> np.ndarray:
        return np.asarray(task.targets_in_views(targets, view))

    feed = FeatureFeed(
        features=features,
        targets=np.stack([targets, *(in_view(view) for view in views[:, labelled])]),
        pool=np.flatnonzero(np.isin(labelled, data.indices("train"))),
        validation_indices=np.flatnonzero(np.isin(labelled, watched)),
        validation_judge=task.judge(data, watched),
        task=task,
        seed=context.seed,
        device=context.device,
        max_batch_size=settings.train.batch_size,
    )
    return teacher.model.get_submodule(settings.train_only), feed


def _with_weights(
    teacher: Candidate, settings: TeacherSettings, data: Dataset, pixels: Decoded, context: Context
) -> Candidate:
    """The teacher with its weights, and with its classes in the order that they name."""
    assert settings.weights is not None and settings.builder is not None
    # The stage's settings hold a file's hash; where the file lies is not part of them.
    file = context.files.get(settings.weights)
    found = Pretrained.read(settings.weights, settings.builder, file)
    if file is None and settings.weights != TIMM:
        # Loading them, torchvision has the network itself turn ImageNet's mean and std into these.
        if hasattr(teacher.model, "transform_input") and teacher.spec.mean != (0.5,) * 3:
            context.progress.note(
                f"{settings.weights} expects mean: [0.5, 0.5, 0.5] and std: [0.5, 0.5, 0.5]"
            )
    else:
        noted, fit = noted_input(found.metadata), teacher.spec.fit
        for note in notes_on(settings, fit, noted, found.shown):
            context.progress.note(note)
    if file is not None and settings.train_only is None:
        # With train_only, the last layer is made anew for this data.
        teacher = replace(teacher, spec=task_of(teacher.spec).check_weights(found.metadata))
    tensors, notes = fitted(found.state_dicts, teacher.model)
    for note in notes:
        context.progress.note(note)
    tensors = converted(
        tensors, teacher.model, settings.builder, lambda: some_images(data, pixels, teacher.spec)
    )
    if settings.train_only is not None:
        fresh = teacher.model.state_dict()
        own = f"{settings.train_only}."
        tensors = {k: v for k, v in tensors.items() if not k.startswith(own)}
        tensors |= {k: v for k, v in fresh.items() if k.startswith(own)}
    load_into(teacher.model, tensors, found.path)
    return teacher
