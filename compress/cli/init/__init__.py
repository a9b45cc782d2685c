"""`compress init`: a recipe for your own model and pictures."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.init.questions import Questions
from compress.cli.run import Allowed
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from compress.cli.init.inspect import Pictures, Teacher
    from compress.data.input_spec import InputSpec
    from compress.recipe.schema import Channel


def init(
    recipe: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    teacher: Annotated[
        str | None,
        typer.Option(help="torchvision.models:resnet50, timm:…, mine.nets:big, or a file.onnx."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Its state dict: safetensors, a torch file of tensors, torchvision:…"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Pictures: class folders, or a folder with a train.csv.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(help="Pixels; 224, or the ONNX file's.")] = None,
    mean: Annotated[str | None, typer.Option(help="R,G,B in 0 to 1; ImageNet's.")] = None,
    std: Annotated[str | None, typer.Option(help="R,G,B in 0 to 1; ImageNet's.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Of shufflenet, mobilenet, prune, factorize, quantize.")
    ] = None,
    speedup: Annotated[str | None, typer.Option(help="Budget: times faster; 5.")] = None,
    max_accuracy_drop: Annotated[
        str | None, typer.Option(help="Budget: top-1 that may be lost; 0.02 is two points.")
    ] = None,
    retrain_last: Annotated[
        bool | None,
        typer.Option(
            help="For weights of other classes: train the last layer anew, or do not.",
            show_default=False,
        ),
    ] = None,
    allow_builders: Allowed = None,
    force: Annotated[bool, typer.Option(help="Overwrite a recipe that is there.")] = False,
) -> None:
    """Write a commented recipe for your own model and pictures.

    Asks on a terminal what the options leave out; without one, what has no default must be given.
    """
    if recipe.exists() and not force:
        raise UserError(f"{recipe} is there: give another name, or --force to overwrite it.")
    allowed = allow_builders or []
    ask = Questions()
    is_file = teacher is not None and teacher.endswith(".onnx")
    needed = {"--teacher": teacher, "--weights": "" if is_file else weights, "--data": data}
    ask.require(needed)

    from compress.cli.init import parse
    from compress.cli.init.inspect import look_at_pictures, onnx_input, refuse_unprunable
    from compress.cli.init.write import CHANGING, METHODS, Answers, write_recipe
    from compress.data.input_spec import InputSpec
    from compress.recipe.load import load_recipe
    from compress.recipe.schema import IMAGENET_MEAN, IMAGENET_STD

    named = ask.answer(
        teacher, "The model: torchvision.models:…, timm:…, your package:function, or a file.onnx",
        lambda text: parse.teacher(text, allowed),
    )  # fmt: skip
    is_file = named.endswith(".onnx")
    if is_file and weights is not None:
        raise UserError("--weights: an ONNX file holds its own; remove the option.")
    stored = None if is_file else ask.answer(weights, "Its weights file", parse.weights)

    def look(text: str) -> "tuple[Path, Pictures]":
        path = Path(text).expanduser()
        return path, look_at_pictures(path)

    folder, pictures = ask.answer(data, "The folder of pictures", look)
    typer.echo(f"Pictures: {pictures.describe()}.")
    usual_size, noted = onnx_input(Path(named)) if is_file else (224, None)
    size = ask.answer(image_size, "Picture size in pixels", parse.size, str(usual_size))
    usual_mean = _said(noted.mean if noted else IMAGENET_MEAN)
    usual_std = _said(noted.std if noted else IMAGENET_STD)
    channel_mean = ask.answer(mean, "Mean of its normalisation", parse.channels, usual_mean)
    channel_std = ask.answer(std, "Its standard deviation", parse.deviations, usual_std)
    spec = InputSpec(
        height=size, width=size, mean=channel_mean, std=channel_std, classes=pictures.classes
    )
    seen = _look(named, stored, spec, allowed)
    typer.echo(f"Teacher: {seen.found}.")
    if seen.retrain is not None:
        question = f"Train {seen.retrain} anew on these {len(pictures.classes)} classes?"
        if not ask.confirm("--retrain-last", retrain_last, question):
            raise UserError(
                f"{stored} are weights of other classes than the pictures: give the pictures that "
                "they were trained on, or --retrain-last."
            )

    possible = [m for m in METHODS if not (is_file and m in CHANGING)]
    chosen = ask.answer(
        methods, "Methods beside int8 (" + "; ".join(f"{m}: {METHODS[m]}" for m in possible) + ")",
        lambda text: parse.methods(text, possible), "shufflenet",
    )  # fmt: skip
    if "prune" in chosen:
        refuse_unprunable(named, spec, allowed)
    faster = ask.answer(speedup, "How many times faster?", parse.speedup, "5")
    drop = ask.answer(
        max_accuracy_drop, "Top-1 that may be lost (0.02 is two points)", parse.drop, "0.02"
    )
    write_recipe(
        Answers(
            named, stored, seen.retrain, folder, pictures, size, channel_mean, channel_std,
            chosen, faster, drop,
        ),
        recipe,
    )  # fmt: skip
    load_recipe(recipe, allowed=allowed)
    options = "".join(f" --allow-builders {shlex.quote(a)}" for a in allowed)
    typer.echo(f"Wrote {recipe}: read it, its comments say what to change. Then:")
    for command in ("check", "run"):
        typer.echo(f"  compress {command} {shlex.quote(str(recipe))}{options}")


def _said(channels: "Channel") -> str:
    return ",".join(map(str, channels))


def _look(teacher: str, weights: str | None, spec: "InputSpec", allowed: list[str]) -> "Teacher":
    from compress.cli.init.inspect import look_at_network, look_at_onnx

    if weights is None:
        return look_at_onnx(Path(teacher), spec)
    return look_at_network(teacher, weights, spec, allowed)
