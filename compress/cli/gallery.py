"""`compress gallery`: images that a model of vectors is to find again."""

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Spec, Threads


def gallery(
    model: Annotated[Path, typer.Argument(help="An ONNX file or an OpenVINO model (.xml).")],
    data: Annotated[
        Path, typer.Argument(help="Labelled images: class folders, or a table that names them.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("gallery.json"),
    threads: Threads = None,
    spec: Spec = None,
) -> None:
    """Keep where images lie in a model's space, for predict --gallery."""
    from compress.measure.gallery import make_gallery, write_gallery

    found = make_gallery(model, data, threads, spec)
    write_gallery(out, model, found)
    typer.echo(f"{out}: for compress predict {model} IMAGE… --gallery {out}")
