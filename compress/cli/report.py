"""`compress report`: one report of several runs."""

from pathlib import Path
from typing import Annotated

import typer

from compress.analysis.summary import summarise
from compress.cli.budget_options import (
    Confidence,
    Latency,
    MaxAccuracyDrop,
    MaxBytes,
    MaxMemory,
    MinAccuracy,
    Runtime,
    Speedup,
    asked,
)
from compress.report.terminal import show
from compress.results.merge import load
from compress.utils.text import plain


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run or report folders, or results.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("reports/joined"),
    speedup: Speedup = None,
    max_accuracy_drop: MaxAccuracyDrop = None,
    latency: Latency = None,
    min_accuracy: MinAccuracy = None,
    max_bytes: MaxBytes = None,
    max_memory: MaxMemory = None,
    runtime: Runtime = None,
    confidence: Confidence = None,
) -> None:
    """Write report.md, report.html, pareto.csv and the image of the front for several runs.

    With one bound or more, as `choose` takes them, it names the model that meets all of them.
    Results of different machines are refused: they cannot be compared.
    """
    budget = asked(
        speedup=speedup,
        max_accuracy_drop=max_accuracy_drop,
        latency=latency,
        min_accuracy=min_accuracy,
        max_bytes=max_bytes,
        max_memory=max_memory,
        runtime=runtime,
        confidence=confidence,
    )
    rows, failed, damaged = load(runs)
    summary = summarise(rows, budget)
    show(summary, failed=failed)
    from compress.report.write import write_report  # here: altair takes a while to load

    title = ", ".join(sorted({row.recipe for row in rows}))
    write_report(summary, out, title, damaged, failed)
    for line in damaged:
        typer.echo(f"Left out: {plain(line)}", err=True)
    typer.echo(f"Wrote {out / 'report.html'} and {out / 'report.md'}.")
