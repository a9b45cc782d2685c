"""A run with all that it leaves: stages, the log, the report, and what a tracker was told."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from compress.cascade.recipe import AnyRecipe
from compress.cascade.run import run_any
from compress.report.tracking import epochs_to, tracked, tracker_named
from compress.report.write import REPORTS, reports_in
from compress.results.schema import Failure, Result
from compress.training.processes import processes
from compress.utils.progress import Progress
from compress.workflow.executors.executor import Executor
from compress.workflow.run import RUNS


def run_and_report(
    loaded: AnyRecipe,
    out: Path,
    console: Console,
    command: str,
    allowed: Sequence[str] = (),
    reuse_other_machine: bool = False,
    log: str | None = None,
    executor: Executor | None = None,
) -> tuple[list[Result], list[Failure]]:
    """Run a recipe into `out/runs` and `out/reports`; as `run_any`.

    Args:
        console: shows how far it is.
        command: reproduces the rows.
        log: the tracker to tell, one of TRACKERS; None: nobody.
        executor: computes the stages; None: this process.

    Raises:
        UserError: as `run_any`, or a tracker that is not installed.
    """
    name = loaded.asked.name
    if not processes().is_first:  # that one says and writes all
        return run_any(
            loaded, out, lambda _: Progress(Console(quiet=True)), command, allowed,
            reuse_other_machine, executor=executor,
        )  # fmt: skip
    with tracker_named(log, name, out / RUNS / name) if log else nullcontext() as tracker:

        def progress_of(recipe: str) -> Progress:
            return Progress(console, out / RUNS / recipe / "run.log", epochs_to(tracker, recipe))

        report = tracked(reports_in(out), tracker, out, REPORTS)
        return run_any(
            loaded, out, progress_of, command, allowed, reuse_other_machine, report, executor
        )
