"""`compress eval`: the accuracy of any deployed file on labelled images."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.paths import on_disk
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from compress.results.schema import Accuracy

Model = Annotated[
    Path,
    typer.Argument(
        help="An ONNX file, an OpenVINO model (.xml), or the folder of a pipeline.",
        callback=on_disk,
    ),
]
Spec = Annotated[
    Path | None,
    typer.Option(
        help="JSON with height, width, mean, std, classes or points, for a file without.",
        callback=on_disk,
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; without it, all cores.")]


def evaluate(
    artifact: Model,
    data: Annotated[Path, typer.Option(help="Labelled images, in any layout `run` takes.")],
    split: Annotated[
        str | None,
        typer.Option(help="validation, train or all; without it, all where data has no split."),
    ] = None,
    threads: Threads = None,
    spec: Spec = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Of a model of points: the columns of each point's x and y (of a box: of x, y, "
            "width, height), a comma between; without it, <point>_x,<point>_y,… (x,y,width,height)."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Points are right within this share of the largest distance between; without it, "
            "0.1."
        ),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="A box is right from this overlap (IoU); without it, 0.5."),
    ] = None,
    per_image: Annotated[
        Path | None, typer.Option(help="Of a pipeline: a CSV file to write, a line a photograph.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Accuracy of a deployed file or pipeline, computed in its runtime."""
    if artifact.is_dir():
        for_models = {"spec": spec, "columns": columns, "tolerance": tolerance, "iou": iou}
        refuse_given(for_models, "of a model, and this is the folder of a pipeline")
        _pipeline(artifact, data, split, threads, per_image, as_json)
        return
    refuse_given({"per-image": per_image}, "for the folder of a pipeline, and this is one model")
    from compress.measure.evaluate import evaluate_file
    from compress.metrics.keypoints import USUAL, KeypointTolerance
    from compress.utils.units import percent, percent_range

    named = columns.split(",") if columns else []
    near = KeypointTolerance(
        USUAL.distance if tolerance is None else tolerance, USUAL.iou if iou is None else iou
    )
    if not (0 < near.distance < math.inf and 0 < near.iou <= 1):
        raise UserError("--tolerance must be above 0, and --iou above 0 and at most 1.")
    evaluation = evaluate_file(artifact, data, split, threads, spec, named, near)
    accuracy = evaluation.accuracy
    for skipped in evaluation.skipped:
        typer.echo(f"Left out: {skipped}", err=True)
    for said in filter(None, (*evaluation.read, evaluation.differs, evaluation.note)):
        typer.echo(said, err=True)
    if as_json:
        typer.echo(accuracy.model_dump_json(indent=2))
        return
    top1 = accuracy.top1
    shown = "all: the model may have been trained on some" if split is None else evaluation.split
    shown = shown if evaluation.split == "all" else f"{evaluation.split} split"
    typer.echo(f"{accuracy.images} images of {data} ({shown})")
    sure = f"({percent_range(top1)})"
    line = [f"{accuracy.word} {percent(top1.value)} {sure}", _beside(accuracy)]
    typer.echo(", ".join(filter(None, line)))


def refuse_given(options: Mapping[str, object], why: str) -> None:
    """Refuse options that would do nothing here.

    Raises:
        UserError: names those that are not None.
    """
    if given := [f"--{name}" for name, value in options.items() if value is not None]:
        raise UserError(f"{' and '.join(given)} {'are' if given[1:] else 'is'} {why}.")


def _pipeline(
    folder: Path,
    data_path: Path,
    split: str | None,
    threads: int | None,
    per_image: Path | None,
    as_json: bool,
) -> None:
    """Judges a pipeline on annotated photographs."""
    from compress.cascade.cascade import Cascade
    from compress.cascade.evaluate import judge, verdict, write_csv
    from compress.data.layouts import read_folder
    from compress.measure.evaluate import chosen
    from compress.measure.machine import usable_threads
    from compress.report.cascades import verdict_lines

    cascade = Cascade.load(folder, threads or usable_threads())
    data = read_folder(data_path)
    for note in data.notes:
        typer.echo(note, err=True)
    used, indices = chosen(data, split)
    judged = judge(cascade, data, indices.tolist())
    said = verdict(judged, names_things=bool(cascade.classes))
    if per_image is not None:
        write_csv(judged, per_image)
    if as_json:
        typer.echo(said.model_dump_json(indent=2))
        return
    typer.echo(f"{said.images} photographs of {data_path} ({used})")
    for line in verdict_lines(said):
        typer.echo(line)


def _beside(accuracy: "Accuracy") -> str:
    """The numbers beside the share that is right."""
    from compress.utils.units import percent, significant, with_half

    if accuracy.task:
        return ", ".join(f"{x.name} {with_half(x.value, x.interval)}" for x in accuracy.further)
    if (errors := accuracy.points) is None:
        return (
            f"top-5 {percent(accuracy.top5)}, macro recall {percent(accuracy.macro_recall)}, "
            f"log loss {significant(accuracy.log_loss)}"
        )
    median, p90 = percent(errors.median_distance), percent(errors.p90_distance)
    found = [f"distance: median {median} %, p90 {p90} %"]
    if errors.mean_iou is not None:
        found.append(f"mean IoU {percent(errors.mean_iou)} %")
    if errors.median_angle_degrees is not None:
        found.append(f"angle error: median {errors.median_angle_degrees:.1f} degrees")
    return f"{', '.join(found)}\nright: {errors.rule}"
