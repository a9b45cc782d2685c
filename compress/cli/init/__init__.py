"""`compress init`: a recipe for your own model and images."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.run import Allowed
from compress.utils.errors import UserError


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
        str | None, typer.Option(help="Images: class folders, or a folder with a train.csv.")
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Of a table, where it is not found: the column with the classes."),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Pixels, or HEIGHTxWIDTH; its own, or 224.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="R,G,B (or one, of grey) in 0 to 1; its own, or ImageNet's.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="R,G,B (or one, of grey) in 0 to 1; its own, or ImageNet's.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Of pretrained (where none is named), shufflenet, mobilenet, prune, factorize, "
            "quantize."
        ),
    ] = None,
    speedup: Annotated[str | None, typer.Option(help="Budget: times faster; 5x, or 5.")] = None,
    max_accuracy_drop: Annotated[
        str | None, typer.Option(help="Budget: top-1 that may be lost; 2%, or 0.02.")
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
    """Write a commented recipe for your own model and images.

    Asks on a terminal what the options leave out; without one, what has no default must be given.
    """
    if recipe.exists() and not force:
        raise UserError(f"{recipe} is there: give another name, or --force to overwrite it.")
    from compress.cli.init.dialogue import Options, answers_of
    from compress.cli.init.write import recipe_for
    from compress.recipe.load import load_recipe
    from compress.utils.files import write_text

    allowed = allow_builders or []
    options = Options(
        teacher=teacher,
        weights=weights,
        data=data,
        label_column=label_column,
        image_size=image_size,
        mean=mean,
        std=std,
        methods=methods,
        speedup=speedup,
        max_accuracy_drop=max_accuracy_drop,
        retrain_last=retrain_last,
    )
    write_text(recipe, recipe_for(answers_of(options, allowed), recipe))
    load_recipe(recipe, allowed=allowed)
    further = "".join(f" --allow-builders {shlex.quote(package)}" for package in allowed)
    typer.echo(f"Wrote {recipe}: read it, its comments say what to change. Then:")
    for command in ("check", "run"):
        typer.echo(f"  compress {command} {shlex.quote(str(recipe))}{further}")
