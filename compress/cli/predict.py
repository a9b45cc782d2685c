"""`compress predict`: what is on these images, or where?"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Spec, Threads
from compress.utils.errors import UserError


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="An ONNX file or an OpenVINO model (.xml), then images; with --pipeline, "
            "images only."
        ),
    ],
    pipeline: Annotated[
        Path | None, typer.Option(help="Folder of a pipeline (with a pipeline.json).")
    ] = None,
    threads: Threads = None,
    spec: Spec = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Of a model of vectors: the file that compress gallery wrote, or a folder of "
            "labelled images, among which the nearest are found."
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the images with the points in them; of a pipeline, also with what "
            "its networks looked at."
        ),
    ] = None,
) -> None:
    """The five most probable names of each image, the pixels where its points are, or both."""
    if pipeline is not None:
        images = files
        found = _through(pipeline, images, threads, draw)
    else:
        artifact, *images = files
        if not images:
            raise UserError("No image was given: compress predict MODEL IMAGE…")
        found = _answered(artifact, images, threads, spec, draw, gallery)
    failed = 0
    for image, lines in zip(images, found, strict=True):
        typer.echo(f"{image}")
        if isinstance(lines, UserError):
            typer.echo(f"  {lines}", err=True)
            failed += 1
            continue
        for line in lines:
            typer.echo(f"  {line}")
    if failed:
        raise UserError(f"{failed} of {len(images)} images could not be read.")


def _through(
    folder: Path, images: list[Path], threads: int | None, draw: Path | None
) -> Iterator[list[str] | UserError]:
    """What a pipeline says of each image."""
    from compress.cascade.answer import NOT_SURE, decode, told
    from compress.cascade.cascade import Cascade
    from compress.cascade.draw import drawn
    from compress.data.draw import save_jpeg
    from compress.measure.machine import usable_threads

    cascade = Cascade.load(folder, threads or usable_threads())
    for number, image in enumerate(images):
        try:
            content = image.read_bytes()
            found = cascade.find(content)
        except (UserError, OSError) as error:
            yield UserError(str(error))
            continue
        lines = told(found, cascade.classes, cascade.min_probability)
        if draw is not None:
            # Numbered, since images of several folders may share a name.
            out = draw / f"{number:04d}-{image.stem}.jpg"
            caption = cascade.name(found) or NOT_SURE
            save_jpeg(drawn(decode(content), found, cascade, caption), out)
            lines.append(f"drawn: {out}")
        yield lines


def _answered(
    artifact: Path,
    images: list[Path],
    threads: int | None,
    spec: Path | None,
    draw: Path | None,
    gallery: Path | None,
) -> Iterator[list[str] | UserError]:
    """What a model says of each image."""
    from compress.export.artifact import spec_of
    from compress.measure.evaluate import predict_files
    from compress.tasks import task_of

    task = task_of(spec_of(artifact, spec))
    say = partial(typer.echo, err=True)
    found = predict_files(artifact, images, threads, spec, say, gallery)
    for number, (image, answer) in enumerate(zip(images, found, strict=True)):
        if isinstance(answer, UserError):
            yield answer
            continue
        lines = task.lines(answer)
        if draw is not None:
            # Numbered, since images of several folders may share a name.
            drawn = draw / f"{number:04d}-{image.stem}.jpg"
            task.draw(image, answer, drawn)
            lines.append(f"drawn: {drawn}")
        yield lines
