"""`compress eval`: the accuracy of any deployed file on labelled pictures."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="An ONNX file, or an OpenVINO model (.xml).")]
Spec = Annotated[
    Path | None,
    typer.Option(help="JSON with height, width, mean, std, classes, for a file without them."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; without it, all cores.")]


def evaluate(
    artifact: Model,
    data: Annotated[Path, typer.Option(help="Labelled pictures, in any layout `run` takes.")],
    split: Annotated[
        str | None,
        typer.Option(help="validation, train or all; without it, all where data has no split."),
    ] = None,
    threads: Threads = None,
    spec: Spec = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Accuracy of a deployed file, computed in its runtime."""
    from compress.evaluate import evaluate_file
    from compress.report.units import percent

    evaluation = evaluate_file(artifact, data, split, threads, spec)
    accuracy = evaluation.accuracy
    for skipped in evaluation.skipped:
        typer.echo(f"Left out: {skipped}", err=True)
    if as_json:
        typer.echo(accuracy.model_dump_json(indent=2))
        return
    top1 = accuracy.top1
    shown = "all: the model may have been trained on some" if split is None else evaluation.split
    shown = shown if evaluation.split == "all" else f"{evaluation.split} split"
    typer.echo(f"{accuracy.pictures} pictures of {data} ({shown})")
    typer.echo(
        f"top-1 {percent(top1.value)} (95 %: {percent(top1.low)} to {percent(top1.high)}), "
        f"top-5 {percent(accuracy.top5)}, macro recall {percent(accuracy.macro_recall)}, "
        f"log loss {accuracy.log_loss:.3f}"
    )
