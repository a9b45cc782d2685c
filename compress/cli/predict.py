"""`compress predict`: what is on these pictures?"""

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Model, Spec, Threads


def predict(
    artifact: Model,
    pictures: Annotated[list[Path], typer.Argument(help="Pictures.")],
    threads: Threads = None,
    spec: Spec = None,
) -> None:
    """The five most probable names of each picture."""
    from compress.evaluate import predict_files
    from compress.report.units import percent

    for picture, names in zip(
        pictures, predict_files(artifact, pictures, threads, spec), strict=True
    ):
        typer.echo(f"{picture}")
        for name, probability in names:
            typer.echo(f"  {percent(probability):>7}  {name}")
