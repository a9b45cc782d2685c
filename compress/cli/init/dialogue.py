"""Asks, in order, what the options of `compress init` leave out, and looks at each answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from compress.cli.init import parse
from compress.cli.init.inspect import (
    USUAL_SIZE,
    Images,
    look_at_images,
    look_at_network,
    look_at_onnx,
    network_input,
    onnx_input,
    refuse_unprunable,
    said_size,
)
from compress.cli.init.questions import Questions
from compress.cli.init.write import CHANGING, METHODS, Answers
from compress.data.input_spec import Channels, InputSpec
from compress.models.own_input import OwnInput
from compress.utils.errors import UserError
from compress.utils.files import local
from compress.utils.settings import check_normalisation


@dataclass(frozen=True)
class Options:
    """What was typed behind the command; None where an option was left out."""

    teacher: str | None = None
    weights: str | None = None
    data: str | None = None
    label_column: str | None = None
    image_size: str | None = None
    mean: str | None = None
    std: str | None = None
    methods: str | None = None
    speedup: str | None = None
    max_accuracy_drop: str | None = None
    retrain_last: bool | None = None
    space: bool = False  # for a search: all that can be done, with lists of values


def answers_of(options: Options, allowed: Sequence[str]) -> Answers:
    """Return what the options say, and the user where they say nothing.

    Raises:
        UserError: an option that is wrong, or missing where nobody can be asked.
    """
    ask = Questions()
    is_file = options.teacher is not None and options.teacher.endswith(".onnx")
    weights = "" if is_file else options.weights
    ask.require({"--teacher": options.teacher, "--weights": weights, "--data": options.data})

    teacher, stored = _model(ask, options, allowed)
    folder, images = ask.answer(
        options.data,
        "The folder of images",
        lambda text: _look_at_folder(text, options.label_column),
    )
    typer.echo(f"Images: {images.describe()}.")
    for note in images.notes:
        typer.echo(f"  {note}")
    if stored is None:
        own = onnx_input(Path(teacher))
    else:
        own = network_input(teacher, stored, len(images.classes), allowed)
    spec = _input_spec(ask, options, own, images.classes)
    retrain = _layer_to_retrain(ask, options, teacher, stored, spec, allowed)
    if options.space:
        methods = _all_methods(teacher, spec, allowed, is_file=stored is None)
    else:
        methods = _methods(ask, options, is_file=stored is None)
        if "prune" in methods:
            refuse_unprunable(teacher, spec, allowed)
    speedup = ask.answer(options.speedup, "How many times faster?", parse.speedup, "5x")
    question = "Top-1 that may be lost (2% is two points)"
    drop = ask.answer(options.max_accuracy_drop, question, parse.drop, "2%")
    return Answers(
        teacher=teacher,
        weights=stored,
        retrain=retrain,
        data=folder,
        images=images,
        spec=spec,
        methods=methods,
        speedup=speedup,
        max_accuracy_drop=drop,
        space=options.space,
    )


def _model(ask: Questions, options: Options, allowed: Sequence[str]) -> tuple[str, str | None]:
    """Return the model and its weights; None where the model is an ONNX file."""
    teacher = ask.answer(
        options.teacher,
        "The model: torchvision.models:…, timm:…, your package:function, or a file.onnx",
        lambda text: parse.teacher(text, allowed),
    )
    if not teacher.endswith(".onnx"):
        return teacher, ask.answer(options.weights, "Its weights file", parse.weights)
    if options.weights is not None:
        raise UserError("--weights: an ONNX file holds its own; remove the option.")
    return teacher, None


def _look_at_folder(text: str, label_column: str | None) -> tuple[Path, Images]:
    path = local(text)
    return path, look_at_images(path, label_column)


def _input_spec(
    ask: Questions, options: Options, own: OwnInput, classes: tuple[str, ...]
) -> InputSpec:
    """Return what the model takes; the defaults are what it says itself."""
    if own.unsaid:
        typer.echo(
            f"Teacher: made for {' and '.join(own.unsaid)}, which a recipe cannot express: images "
            "are scaled bilinearly, and their whole shorter side is seen."
        )
    question, said = "Image size in pixels (or HEIGHTxWIDTH)", said_size(own.size or USUAL_SIZE)
    height, width = ask.answer(options.image_size, question, parse.size, said)
    if own.dtype == "uint8":
        if given := [f"--{name}" for name in ("mean", "std") if getattr(options, name) is not None]:
            raise UserError(
                f"The file takes bytes and normalises them itself: remove {' and '.join(given)}."
            )
        mean, std = own.mean, own.std
    else:
        question = "Mean of its normalisation"
        mean = ask.answer(options.mean, question, parse.channels, _said(own.mean))
        std = ask.answer(options.std, "Its standard deviation", parse.deviations, _said(own.std))
    if len(mean) != len(std):
        raise UserError(
            f"--mean has {len(mean)} and --std {len(std)} numbers: give one each for grey images, "
            "or three."
        )
    try:
        check_normalisation(mean, std)
    except ValueError as error:
        raise UserError(f"--mean and --std: {error}.") from error
    colours: Channels = own.channels if own.channels != "grey" else "rgb"
    return InputSpec(
        height=height,
        width=width,
        channels="grey" if len(mean) == 1 else colours,
        mean=tuple(mean),
        std=tuple(std),
        dtype=own.dtype,
        layout=own.layout,
        fit=own.fit or "crop",
        classes=classes,
    )


def _said(channels: Sequence[float]) -> str:
    return ",".join(map(str, channels))


def _layer_to_retrain(
    ask: Questions,
    options: Options,
    teacher: str,
    weights: str | None,
    spec: InputSpec,
    allowed: Sequence[str],
) -> str | None:
    """Return the last layer where the weights are of other classes, and it shall be trained anew.

    Raises:
        UserError: they are of other classes and it shall not.
    """
    if weights is None:
        found = look_at_onnx(Path(teacher), spec)
    else:
        found = look_at_network(teacher, weights, spec, allowed)
    typer.echo(f"Teacher: {found.found}.")
    if found.retrain is not None:
        question = f"Train {found.retrain} anew on these {len(spec.classes)} classes?"
        if not ask.confirm("--retrain-last", options.retrain_last, question):
            raise UserError(
                f"{weights} are weights of other classes than the images: give the images that "
                "they were trained on, or --retrain-last."
            )
    return found.retrain


def _methods(ask: Questions, options: Options, is_file: bool) -> tuple[str, ...]:
    possible = [name for name in METHODS if not (is_file and name in CHANGING)]
    described = "; ".join(f"{name}: {METHODS[name]}" for name in possible)
    return ask.answer(
        options.methods,
        f"Methods beside int8 ({described})",
        lambda text: parse.methods(text, possible),
        "pretrained",
    )


def _all_methods(
    teacher: str, spec: InputSpec, allowed: Sequence[str], is_file: bool
) -> tuple[str, ...]:
    """Return all that can be done to the teacher; says what cannot."""
    methods = [name for name in METHODS if not (is_file and name in CHANGING)]
    if "prune" in methods:
        try:
            refuse_unprunable(teacher, spec, allowed)
        except UserError as error:
            typer.echo(f"Not pruned: {error}")
            methods.remove("prune")
    return tuple(methods)
