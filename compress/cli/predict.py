"""`compress predict`: what is on these pictures, or where?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Model, Spec, Threads
from compress.errors import UserError


def predict(
    artifact: Model,
    pictures: Annotated[list[Path], typer.Argument(help="Pictures.")],
    threads: Threads = None,
    spec: Spec = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Of a model of points: folder for the pictures with the points in them."),
    ] = None,
) -> None:
    """The five most probable names of each picture, or the pixels where its points are."""
    from compress.artifact import spec_of

    answers = _places if spec_of(artifact, spec).points else _names
    failed = 0
    for picture, lines in zip(
        pictures, answers(artifact, pictures, threads, spec, draw), strict=True
    ):
        typer.echo(f"{picture}")
        if isinstance(lines, UserError):
            typer.echo(f"  {lines}", err=True)
            failed += 1
            continue
        for line in lines:
            typer.echo(f"  {line}")
    if failed:
        raise UserError(f"{failed} of {len(pictures)} pictures could not be read.")


def _names(
    artifact: Path, pictures: list[Path], threads: int | None, spec: Path | None, draw: Path | None
) -> Iterator[list[str] | UserError]:
    from compress.evaluate import predict_files
    from compress.report.units import percent

    if draw is not None:
        raise UserError("--draw is for models of points, and this one predicts classes.")
    for names in predict_files(artifact, pictures, threads, spec):
        if isinstance(names, UserError):
            yield names
        else:
            yield [f"{percent(probability):>7}  {name}" for name, probability in names]


def _places(
    artifact: Path, pictures: list[Path], threads: int | None, spec: Path | None, draw: Path | None
) -> Iterator[list[str] | UserError]:
    from compress.draw import draw_points
    from compress.evaluate import predict_points

    found = predict_points(artifact, pictures, threads, spec)
    for number, (picture, points) in enumerate(zip(pictures, found, strict=True)):
        if isinstance(points, UserError):
            yield points
            continue
        lines = [f"{name}: {x:.1f}, {y:.1f}" for name, (x, y) in points.items()]
        if draw is not None:
            # Numbered, since pictures of several folders may share a name.
            drawn = draw / f"{number:04d}-{picture.stem}.jpg"
            draw_points(picture, points, drawn)
            lines.append(f"drawn: {drawn}")
        yield lines
