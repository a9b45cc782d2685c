"""`compress profile`: where does the time go, and what to try first?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.eval import Threads
from compress.cli.run import Allowed


def profile(
    model: Annotated[
        str,
        typer.Argument(
            help="An ONNX file, an OpenVINO model (.xml), a builder: torchvision.models:resnet50, "
            "or the folder of a pipeline (with a pipeline.json)."
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Photographs to time a pipeline on.", show_default=False),
    ] = None,
    threads: Threads = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels of a side, for builders and models that leave it free."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a call.")] = 1,
    no_audit: Annotated[
        bool, typer.Option("--no-audit", help="Leave out libraries and other runtimes.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with a flame chart.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    allow_builders: Allowed = None,
) -> None:
    """Time each layer, compare it with this machine's limits, and say what to try first.

    A pipeline is timed from a photograph's bytes to the answer: decoding, then of each stage where
    it looks and its network, layer by layer.

    The library audit times the same model in other runtimes and settings: what can be won without
    compressing anything. Nothing is downloaded: builders give networks with random weights.
    """
    from compress.profile.run import Settings
    from compress.profile.run import profile as profile_model

    settings = Settings(threads, images or (), size, batch, not no_audit, allow_builders or ())
    found = profile_model(model, settings, lambda text: typer.echo(f"{text} ...", err=True))
    if html:
        from compress.profile.html import html as page
        from compress.utils.files import write_text

        write_text(html, page(found))
    if as_json:
        from compress.profile import roofline

        typer.echo(json.dumps(roofline.as_json(found), indent=1))
        return
    from compress.profile.terminal import show

    show(found)
    if html:
        typer.echo(f"Page: {html}")
