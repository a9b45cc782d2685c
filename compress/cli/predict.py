"""`compress predict`: what is on these pictures, or where?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Spec, Threads
from compress.utils.errors import UserError


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="An ONNX file or an OpenVINO model (.xml), then pictures; with --pipeline, "
            "pictures only."
        ),
    ],
    pipeline: Annotated[
        Path | None, typer.Option(help="Folder of a pipeline (with a pipeline.json).")
    ] = None,
    threads: Threads = None,
    spec: Spec = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the pictures with the points in them; of a pipeline, also with what "
            "its networks looked at."
        ),
    ] = None,
) -> None:
    """The five most probable names of each picture, the pixels where its points are, or both."""
    if pipeline is not None:
        pictures = files
        found = _through(pipeline, pictures, threads, draw)
    else:
        artifact, *pictures = files
        if not pictures:
            raise UserError("No picture was given: compress predict MODEL PICTURE…")
        found = _answered(artifact, pictures, threads, spec, draw)
    failed = 0
    for picture, lines in zip(pictures, found, strict=True):
        typer.echo(f"{picture}")
        if isinstance(lines, UserError):
            typer.echo(f"  {lines}", err=True)
            failed += 1
            continue
        for line in lines:
            typer.echo(f"  {line}")
    if failed:
        raise UserError(f"{failed} of {len(pictures)} pictures could not be read.")


def _through(
    folder: Path, pictures: list[Path], threads: int | None, draw: Path | None
) -> Iterator[list[str] | UserError]:
    """What a pipeline says of each picture."""
    from compress.cascade.cascade import Cascade, decode
    from compress.cascade.draw import drawn
    from compress.data.draw import save_jpeg
    from compress.measure.machine import usable_threads
    from compress.utils.units import ms, percent

    cascade = Cascade.load(folder, threads or usable_threads())
    for number, picture in enumerate(pictures):
        try:
            content = picture.read_bytes()
            found = cascade.find(content)
        except (UserError, OSError) as error:
            yield UserError(str(error))
            continue
        ranked = sorted(zip(found.probabilities, cascade.classes, strict=True), reverse=True)[:5]
        caption = cascade.name(found) or "not sure enough to give a name"
        lines = [caption] if ranked else []
        lines += [f"{percent(float(p)):>7}  {name}" for p, name in ranked]
        lines += [f"{name}: {x:.1f}, {y:.1f}" for name, (x, y) in found.points.items()]
        lines.append(f"{ms(found.total_s)} ms")
        if draw is not None:
            # Numbered, since pictures of several folders may share a name.
            out = draw / f"{number:04d}-{picture.stem}.jpg"
            save_jpeg(drawn(decode(content), found, cascade, caption), out)
            lines.append(f"drawn: {out}")
        yield lines


def _answered(
    artifact: Path, pictures: list[Path], threads: int | None, spec: Path | None, draw: Path | None
) -> Iterator[list[str] | UserError]:
    """What a model says of each picture."""
    from compress.export.artifact import spec_of
    from compress.measure.evaluate import predict_files
    from compress.tasks import task_of

    task = task_of(spec_of(artifact, spec))
    found = predict_files(artifact, pictures, threads, spec)
    for number, (picture, answer) in enumerate(zip(pictures, found, strict=True)):
        if isinstance(answer, UserError):
            yield answer
            continue
        lines = task.lines(answer)
        if draw is not None:
            # Numbered, since pictures of several folders may share a name.
            drawn = draw / f"{number:04d}-{picture.stem}.jpg"
            task.draw(picture, answer, drawn)
            lines.append(f"drawn: {drawn}")
        yield lines
