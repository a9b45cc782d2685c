"""`compress predict`: what is on these images, or where?"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from compress.cli.eval import Spec, Threads, refuse_given
from compress.cli.paths import on_disk
from compress.utils.errors import UserError


class Answered(NamedTuple):
    """What is said of one image."""

    lines: list[str]  # for people
    rows: list[dict[str, Any]]  # for scripts, see `report/predictions.py`

    def drawn(self, path: Path) -> "Answered":
        """Return the same with the path of what was drawn."""
        return Answered(
            [*self.lines, f"drawn: {path}"], [x | {"drawn": str(path)} for x in self.rows]
        )


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="An ONNX file or an OpenVINO model (.xml), then images, folders of them, and "
            "lists (.txt, or - for what is piped in: a path a line); with --pipeline, no model.",
            callback=on_disk,
        ),
    ],
    pipeline: Annotated[
        Path | None,
        typer.Option(help="Folder of a pipeline (with a pipeline.json).", callback=on_disk),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="So many of the most probable names; without it, five."),
    ] = None,
    threads: Threads = None,
    spec: Spec = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Of a model of vectors: the file that compress gallery wrote, or a folder of "
            "labelled images, among which the nearest are found.",
            callback=on_disk,
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the images with the points in them; of a pipeline, also with what "
            "its networks looked at."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list with a mapping for each image.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a table with a row for each name of an image.")
    ] = False,
) -> None:
    """The most probable names of each image, the pixels where its points are, or both.

    An image that cannot be read is a row with the reason; the others are answered, and the exit
    code is 2.
    """
    from compress.data.deep_images import by_range, range_of, several
    from compress.report.predictions import write_csv, write_json

    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other: give one of them.")
    images = list(_images(files if pipeline is not None else files[1:]))
    if not images:
        example = "MODEL IMAGE…" if pipeline is None else "--pipeline DIR IMAGE…"
        raise UserError(f"No image was given: compress predict {example}")
    if len(deep := by_range((str(x), range_of(x)) for x in images)) > 1:
        typer.echo(f"There are {several(deep)}", err=True)
    if pipeline is not None:
        refuse_given({"spec": spec, "gallery": gallery}, "of a model, and this is a pipeline")
        answers = _through(pipeline, images, threads, draw, top)
    else:
        answers = _answered(files[0], images, threads, spec, draw, top, gallery)
    unread: list[Path] = []
    found = _noting(zip(_shown(images), answers, strict=True), unread)
    if as_json or as_csv:
        rows = ((i, x if isinstance(x, UserError) else x.rows) for i, x in found)
        (write_json if as_json else write_csv)(rows, sys.stdout)
    else:
        _tell(found)
    if unread:
        raise UserError(f"{len(unread)} of {len(images)} images could not be read.")


def _images(given: Iterable[Path]) -> Iterator[Path]:
    """Yield the images, those of folders, and those that lists name.

    Raises:
        UserError: a folder without images, a list that cannot be read.
    """
    from compress.data.image_files import images_below

    for path in given:
        if path.is_dir():
            below = list(images_below(path, path))
            if not below:
                raise UserError(f"{path} has no images: name a folder that has some.")
            yield from below
        elif path == Path("-") or path.suffix == ".txt":
            try:
                text = sys.stdin.read() if path == Path("-") else path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{path} is no list of images, a path a line: {error}") from error
            yield from (Path(line.strip()) for line in text.splitlines() if line.strip())
        else:
            yield path


def _shown(images: list[Path]) -> Iterator[Path]:
    """Yield the images; a bar on stderr says how many are done, where nothing else tells it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    told = len(images) == 1 or sys.stdout.isatty() or not console.is_terminal
    # Or what is printed on stdout would go where the bar is.
    own = Progress(console=console, disable=told, redirect_stdout=False, redirect_stderr=False)
    with own as progress:
        yield from progress.track(images, description="images")


def _noting(
    found: Iterable[tuple[Path, Answered | UserError]], unread: list[Path]
) -> Iterator[tuple[Path, Answered | UserError]]:
    """Pass on what is found, and keep which images could not be read."""
    for image, said in found:
        if isinstance(said, UserError):
            unread.append(image)
        yield image, said


def _tell(found: Iterable[tuple[Path, Answered | UserError]]) -> None:
    """Print the answers for people; why an image could not be read goes to stderr."""
    for image, said in found:
        typer.echo(f"{image}")
        if isinstance(said, UserError):
            typer.echo(f"  {said}", err=True)
            continue
        for line in said.lines:
            typer.echo(f"  {line}")


def _through(
    folder: Path, images: list[Path], threads: int | None, draw: Path | None, top: int | None
) -> Iterator[Answered | UserError]:
    """What a pipeline says of each image."""
    from compress.cascade.answer import NOT_SURE, SHOWN, decode, told
    from compress.cascade.cascade import Cascade
    from compress.cascade.draw import drawn
    from compress.data.draw import save_jpeg
    from compress.measure.machine import usable_threads

    cascade = Cascade.load(folder, threads or usable_threads())
    cascade.refuse_without({})  # before any image is called unreadable
    for number, image in enumerate(images):
        try:
            content = image.read_bytes()
            found = cascade.find(content)
        except (UserError, OSError) as error:
            yield UserError(str(error))
            continue
        lines = told(found, cascade.classes, cascade.min_probability, top or SHOWN)
        answered = Answered(lines, cascade.rows(found, top or SHOWN))
        if draw is not None:
            out = _beside(draw, number, image)
            caption = cascade.name(found) or NOT_SURE
            save_jpeg(drawn(decode(content), found, cascade, caption), out)
            answered = answered.drawn(out)
        yield answered


def _answered(
    artifact: Path,
    images: list[Path],
    threads: int | None,
    spec: Path | None,
    draw: Path | None,
    top: int | None,
    gallery: Path | None,
) -> Iterator[Answered | UserError]:
    """What a model says of each image."""
    from compress.export.artifact import spec_of
    from compress.measure.evaluate import predict_files
    from compress.tasks import task_of

    task = task_of(spec_of(artifact, spec))
    say = partial(typer.echo, err=True)
    found = predict_files(artifact, images, threads, spec, say, top, gallery)
    for number, (image, answer) in enumerate(zip(images, found, strict=True)):
        if isinstance(answer, UserError):
            yield answer
            continue
        answered = Answered(task.lines(answer), task.rows(answer))
        if draw is not None:
            out = _beside(draw, number, image)
            task.draw(image, answer, out)
            answered = answered.drawn(out)
        yield answered


def _beside(folder: Path, number: int, image: Path) -> Path:
    """Return where an image is drawn; numbered: several folders may share a name."""
    return folder / f"{number:04d}-{image.stem}.jpg"
