"""`compress profile`: where does the time go, and what to try first?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.eval import Threads
from compress.cli.paths import on_disk
from compress.cli.run import Allowed
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from compress.profile.settings import Settings


def profile(
    model: Annotated[
        str,
        typer.Argument(
            help="An ONNX file, an OpenVINO model (.xml), a builder: torchvision.models:resnet50, "
            "or the folder of a pipeline (with a pipeline.json).",
            callback=on_disk,
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Photographs to time a pipeline on.", show_default=False),
    ] = None,
    threads: Threads = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels of a side, or height x width, for builders and models that leave them "
            "free: 224, 480x640."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a call.")] = 1,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="onnxruntime, openvino or openvino-bf16; without it, by the file's format."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="B",
            help="Compare MODEL with another one, layer by layer: why is it not faster, or slower?",
            callback=on_disk,
        ),
    ] = None,
    against_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of --against; without it, as many.")
    ] = None,
    against_runtime: Annotated[
        str | None, typer.Option(help="Runtime of --against; without it, as --runtime.")
    ] = None,
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
    from compress.measure.deployable import height_and_width
    from compress.profile.settings import Settings

    pixels = None if size is None else height_and_width(size)
    settings = Settings(
        threads, images or (), pixels, batch, not no_audit, allow_builders or (), runtime
    )
    if against is not None:
        _compare(model, against, against_threads, against_runtime, settings, html, as_json)
        return
    if against_threads is not None or against_runtime is not None:
        raise UserError("--against-threads and --against-runtime say how to run --against B.")
    from compress.profile.run import profile as profile_model

    found = profile_model(model, settings, _progress)
    if html:
        from compress.profile.html import html as page

        _write(html, page(found))
    if as_json:
        from compress.profile import roofline

        typer.echo(json.dumps(roofline.as_json(found), indent=1))
        return
    from compress.profile.terminal import show

    show(found)
    if html:
        typer.echo(f"Page: {html}")


def _compare(
    model: str,
    against: str,
    threads: int | None,
    runtime: str | None,
    settings: "Settings",
    html: Path | None,
    as_json: bool,
) -> None:
    from compress.profile.against import Other, compare

    found = compare(model, Other(against, threads, runtime), settings, _progress)
    if html:
        from compress.profile.html import comparison_html

        _write(html, comparison_html(found))
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    from compress.profile.terminal import show_comparison

    show_comparison(found)
    if html:
        typer.echo(f"Page: {html}")


def _progress(text: str) -> None:
    typer.echo(f"{text} ...", err=True)


def _write(path: Path, page: str) -> None:
    from compress.utils.files import write_text

    write_text(path, page)
