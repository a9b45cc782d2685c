"""Builds the teacher, gives it its weights, trains it where the recipe says so."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.dataset import Dataset
from compress.data.input_spec import normalise
from compress.methods.context import Context
from compress.metrics.probabilities import scale_of
from compress.models.builders import identity, load_module
from compress.models.candidate import Candidate
from compress.models.checkpoint import load_into, read_checkpoint
from compress.models.weight_names import fitted
from compress.recipe.schema import TeacherSettings
from compress.results.schema import Training
from compress.runtimes.outputs import by_name
from compress.tasks import task_of, task_of_data
from compress.training.batches import (
    FeatureFeed,
    Feed,
    ImageFeed,
    Pixels,
    draw_bank,
)
from compress.training.cached_features import module_inputs
from compress.training.loop import finish, train
from compress.training.objectives import label_objective
from compress.training.settings import TRAINING_VERSION, TrainSettings
from compress.utils.errors import UserError
from compress.workflow.cache import Stage

VERSION = 1
STATISTICS_IMAGES = 64


def plan(
    settings: TeacherSettings, fit: str, seed: int, data: Stage, allowed: Sequence[str] = ()
) -> Stage:
    """The teacher stage; a weights file is known by its contents."""
    described: dict[str, Any] = settings.in_key(exclude={"onnx", "licence", "source"})
    described |= {"fit": fit, "seed": seed}
    assert settings.builder is not None
    described["code"] = identity(settings.builder, allowed)
    described["training_version"] = TRAINING_VERSION
    if settings.weights is not None and not settings.weights.startswith("torchvision:"):
        path = Path(settings.weights)
        if not path.is_file():
            raise UserError(
                f"teacher.weights: no file at {path}. Give the path of a safetensors file relative "
                "to the recipe, or remove the line and add teacher.train to train from scratch."
            )
        described["weights"] = hashlib.sha256(path.read_bytes()).hexdigest()
    how = f"train {settings.train.epochs} epochs" if settings.train else "weights as given"
    return Stage(
        "teacher", f"teacher {settings.builder.rpartition(':')[2]}: {how}", VERSION, described,
        {"data": data}, run,
    )  # fmt: skip


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
    if settings.weights is not None:
        teacher = _with_weights(teacher, settings, data, pixels, context)
        spec = teacher.spec
    shown = data.indices("validation")[:STATISTICS_IMAGES:4]
    refuse_probabilities(teacher, normalise(pixels(spec)[shown], spec))
    if settings.train is not None:
        teacher = _trained(teacher, settings, settings.train, data, pixels, folder, context)
    teacher.save(folder, stage.settings, inputs)
    finish(folder)


def _trained(
    teacher: Candidate,
    settings: TeacherSettings,
    config: TrainSettings,
    data: Dataset,
    pixels: Pixels,
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
    history = train(model, feed, label_objective(spec, config), config, folder, context.progress)
    how = "from scratch" if settings.weights is None else "fine-tuned"
    if settings.train_only is not None:
        how = f"only {settings.train_only}"
    return teacher.trained(
        Training(
            description=f"labels, {how}",
            labelled_images=len(labelled),
            precision=config.precision,
            seconds=sum(epoch.seconds for epoch in history),
            epochs=history,
        )
    )


def refuse_probabilities(teacher: Candidate, images: np.ndarray) -> None:
    """Refuses a network that ends in a softmax or sigmoid: students learn from logits.

    Args:
        images: float32 (n, 3, height, width), prepared.

    Raises:
        UserError: its answers are probabilities.
    """
    logits = task_of(teacher.spec).logits
    if logits is None:
        return
    with torch.inference_mode():
        given = teacher.model.eval()(torch.from_numpy(images))
    answers = by_name(given, teacher.spec.outputs)[logits].float().numpy()
    if scale := scale_of(answers):
        raise UserError(
            f"{teacher.name} answers with the probabilities of a {scale}, and logits are expected: "
            f"leave the {scale} out at the end of its forward."
        )


def _last_part(
    teacher: Candidate,
    settings: TeacherSettings,
    data: Dataset,
    pixels: Pixels,
    folder: Path,
    context: Context,
) -> tuple[nn.Module, Feed]:
    """The module that is trained alone, and its inputs for stored views of labelled images."""
    assert settings.train_only is not None and settings.train is not None
    labelled = data.indices("train", "validation")
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
        validation_indices=np.flatnonzero(np.isin(labelled, data.indices("validation"))),
        validation_judge=task.judge(data, data.indices("validation")),
        task=task,
        seed=context.seed,
        device=context.device,
        max_batch_size=settings.train.batch_size,
    )
    return teacher.model.get_submodule(settings.train_only), feed


def _with_weights(
    teacher: Candidate, settings: TeacherSettings, data: Dataset, pixels: Pixels, context: Context
) -> Candidate:
    """The teacher with its weights, and with its classes in the order that they name."""
    assert settings.weights is not None and settings.builder is not None
    if settings.weights.startswith("torchvision:"):
        found = {"": _download(settings.weights)}
        # Loading them, torchvision has the network itself turn ImageNet's mean and std into these.
        if hasattr(teacher.model, "transform_input") and teacher.spec.mean != (0.5,) * 3:
            context.progress.note(
                f"{settings.weights} expects mean: [0.5, 0.5, 0.5] and std: [0.5, 0.5, 0.5]"
            )
    else:
        # The stage's settings hold the file's hash; where the file lies is not part of them.
        assert context.weights_path is not None
        found, metadata = read_checkpoint(context.weights_path)
        if settings.train_only is None:  # with it, the last layer is made anew for this data
            teacher = replace(teacher, spec=task_of(teacher.spec).check_weights(metadata))
    tensors, notes = fitted(found, teacher.model)
    for note in notes:
        context.progress.note(note)
    prepare = getattr(load_module(settings.builder, context.allowed), "prepare_weights", None)
    if prepare is not None:
        train_indices = data.indices("train")[:STATISTICS_IMAGES]
        images = normalise(pixels(teacher.spec)[train_indices], teacher.spec)
        tensors = prepare(teacher.model, tensors, torch.from_numpy(images))
    if settings.train_only is not None:
        fresh = teacher.model.state_dict()
        own = f"{settings.train_only}."
        tensors = {k: v for k, v in tensors.items() if not k.startswith(own)}
        tensors |= {k: v for k, v in fresh.items() if k.startswith(own)}
    load_into(teacher.model, tensors, context.weights_path or Path(settings.weights))
    return teacher


def _download(name: str) -> dict[str, Tensor]:
    """Weights that torchvision offers online; asked for by name in the recipe.

    Raises:
        UserError: no such weights, or no way to reach them.
    """
    from torchvision.models import get_weight

    try:
        weights = get_weight(name.removeprefix("torchvision:"))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"teacher.weights: torchvision has no {name!r}: {error}") from error
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except OSError as error:
        raise UserError(
            f"{name} could not be downloaded from {weights.url} ({error}). Download that file "
            "elsewhere and give its path as teacher.weights."
        ) from error
