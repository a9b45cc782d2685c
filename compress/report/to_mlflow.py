"""Runs of MLflow, where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say, or its usual place."""

import re
from collections.abc import Mapping
from pathlib import Path

import mlflow

ODD = re.compile(r"[^\w.\- /]")  # in names, which MLflow refuses


class MLflow:
    """One run: a metric for each number, the report and the models as artifacts."""

    def __init__(self, run: str, folder: Path) -> None:
        self._run = mlflow.start_run(run_name=run)

    def __enter__(self) -> "MLflow":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        mlflow.end_run("FINISHED" if kind is None else "FAILED")

    def numbers(self, of: str, values: Mapping[str, float], step: int = 0) -> None:
        """Log a step of each metric."""
        mlflow.log_metrics({ODD.sub("_", f"{of}/{key}"): x for key, x in values.items()}, step)

    def folder(self, folder: Path, called: str) -> None:
        """Log all files of a report."""
        mlflow.log_artifacts(str(folder), ODD.sub("_", called))

    def file(self, file: Path, called: str) -> None:
        """Log a model's file, and the weights beside an .xml."""
        beside = [file.with_suffix(".bin")] if file.suffix == ".xml" else []
        for each in (file, *beside):
            mlflow.log_artifact(str(each), ODD.sub("_", called))
