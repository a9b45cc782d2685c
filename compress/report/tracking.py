"""What a run tells a tracker of experiments: epochs as they are trained, then rows and reports.

A tracker is a file beside this one; its library is an extra of the same name.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from compress.analysis.explain import name
from compress.recipe.schema import BaseRecipe
from compress.results.schema import Failure, Result
from compress.utils.errors import UserError
from compress.workflow.run import Report

TRACKERS = ("tensorboard", "mlflow")


class Tracker(AbstractContextManager["Tracker"], Protocol):
    """Takes what a run tells, until the `with` block that it is the context of ends."""

    def numbers(self, of: str, values: Mapping[str, float], step: int = 0) -> None:
        """Keep numbers of a stage or a row: loss, accuracy, latency_s, …; steps count epochs."""

    def folder(self, folder: Path, called: str) -> None:
        """Keep the files of a report."""

    def file(self, file: Path, called: str) -> None:
        """Keep a deployed model."""


def tracker_named(kind: str, run: str, folder: Path) -> Tracker:
    """Return a tracker of a run.

    Args:
        run: its name.
        folder: of the run, for trackers that write files beside it.

    Raises:
        UserError: no such tracker, or its library is not installed.
    """
    if kind not in TRACKERS:
        raise UserError(f"--log {kind}: choose of {', '.join(TRACKERS)}.")
    try:
        if kind == "tensorboard":
            from compress.report.to_tensorboard import TensorBoard

            return TensorBoard(run, folder)
        from compress.report.to_mlflow import MLflow

        return MLflow(run, folder)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--log {kind}: {error.name} is not installed; pip install 'compress[{kind}]'."
        ) from error


def epochs_to(tracker: Tracker | None, recipe: str) -> Callable[[str, int, dict[str, float]], None]:
    """Return what `Progress` tells of each epoch, for a recipe's stages."""

    def tell(stage: str, epoch: int, values: dict[str, float]) -> None:
        if tracker is not None:
            tracker.numbers(f"{recipe}/{stage}", values, epoch)

    return tell


def tracked(report: Report, tracker: Tracker | None, out: Path, reports: str) -> Report:
    """Return what writes a report, and tells the tracker of it.

    Args:
        reports: the folder in `out` that it is written to, in one of the recipe's name.
    """

    def write(recipe: BaseRecipe, results: Sequence[Result], failed: Sequence[Failure]) -> None:
        report(recipe, results, failed)
        if tracker is None:
            return
        for row in results:
            tracker.numbers(f"{recipe.name}/{name(row)}", _numbers(row))
            if row.artifact.runtime != "torch" and (out / row.artifact.path).is_file():
                tracker.file(out / row.artifact.path, f"{recipe.name}/{name(row)}")
        tracker.folder(out / reports / recipe.name, f"{recipe.name}/report")

    return write


def _numbers(row: Result) -> dict[str, float]:
    """Return what a row is compared by; what was not measured is left out."""
    speedup, drop = row.speedup, row.accuracy.top1_drop
    found = {
        "accuracy": row.accuracy.top1.value,
        "accuracy_drop": None if drop is None else drop.value,
        "latency_s": row.latency_s,
        "images_per_s": row.throughput,
        "speedup": None if speedup is None else speedup.ratio.value,
        "size_bytes": row.artifact.size_bytes,
    }
    return {key: float(value) for key, value in found.items() if value is not None}
