"""The same as the command line, for notebooks.

from compress.api import choose, run

results = run("recipes/distill_shufflenet.yaml", data="my_images")
choice = choose(results, speedup=5, max_accuracy_drop=0.02)
print(choice.picked.artifact.path, choice.why)
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice
from compress.analysis.choose import choose as choose_row
from compress.measure.evaluate import evaluate_file as evaluate
from compress.measure.evaluate import predict_files as predict
from compress.results.merge import join as load_results
from compress.results.schema import Result

__all__ = [
    "Choice",
    "Result",
    "choose",
    "evaluate",
    "load_results",
    "predict",
    "run",
]


def run(
    recipe: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path = ".",
    assignments: Sequence[str] = (),
    allow_builders: Sequence[str] = (),
    reuse_other_machine: bool = False,
) -> list[Result]:
    """Runs a recipe file; see `compress run --help`. One result per artifact, or per pipeline."""
    from rich.console import Console

    from compress.cascade.recipe import load_any
    from compress.cascade.run import run_any
    from compress.report.write import reports_in
    from compress.utils.progress import Progress
    from compress.workflow.run import RUNS

    folder = None if data is None else Path(data)
    loaded = load_any(Path(recipe), folder, assignments, allow_builders)
    words = ["compress", "run", str(recipe)]
    words += [] if data is None else ["--data", str(data)]
    words += [word for a in assignments for word in ("--set", a)]
    words += [word for a in allow_builders for word in ("--allow-builders", a)]
    words += ["--reuse-other-machine"] if reuse_other_machine else []

    def progress_of(name: str) -> Progress:
        return Progress(Console(), Path(out) / RUNS / name / "run.log")

    results, _ = run_any(
        loaded,
        Path(out),
        progress_of,
        shlex.join(words),
        allow_builders,
        reuse_other_machine,
        reports_in(Path(out)),
    )
    return results


def choose(
    results: Sequence[Result],
    speedup: float | str | None = None,
    max_accuracy_drop: float | str | None = None,
    **more: Any,
) -> Choice:
    """The most accurate result that meets the budget; `choice.picked` is None where nothing fits.

    Args:
        speedup: 5, or "5x".
        max_accuracy_drop: 0.02, or "2%".
        more: other bounds, as the command line takes them: latency="20ms", max_bytes="6MB",
            min_accuracy, max_memory, runtime, confidence; or fields of `Budget`: latency_s, …
    """
    budget = Budget.typed(speedup=speedup, max_accuracy_drop=max_accuracy_drop, **more)
    return choose_row(results, budget)
