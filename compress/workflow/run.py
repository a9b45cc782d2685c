"""Runs a recipe: plan, stages, results, report. This file reads as the pipeline."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from compress.measure.relative import with_comparisons
from compress.methods.context import Context
from compress.recipe.schema import BaseRecipe, Recipe
from compress.results.file import RESULTS_FILE, append, files_judged, read
from compress.results.schema import Failure, Machine, Result
from compress.training.processes import processes
from compress.utils.errors import UserError
from compress.utils.files import mark_own
from compress.utils.progress import Progress
from compress.utils.seeding import derive
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.executor import Executor
from compress.workflow.executors.local import Local
from compress.workflow.plan import Plan, files_of, in_order, make_plan
from compress.workflow.precision import device_of
from compress.workflow.rows import result_of
from compress.workflow.stages import data, doubts
from compress.workflow.too_few_images import too_few_images

if TYPE_CHECKING:
    import torch

RUNS, STAGES, TABLES = "runs", "stages", "latency_tables"
# Is told the recipe, its rows and the candidates that failed, when all is measured.
Report = Callable[[BaseRecipe, Sequence[Result], Sequence[Failure]], None]


def run_recipe(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    command: str,
    allowed: Sequence[str] = (),
    reuse_other_machine: bool = False,
    report: Report = lambda *_: None,
    executor: Executor | None = None,
) -> tuple[list[Result], list[Failure]]:
    """Does everything a recipe asks for that was not done before.

    Args:
        out: gets `runs/` (stages, results).
        command: the command line that does the same, kept in every result.
        reuse_other_machine: take what another machine decided or trained, as `Store` does.
        executor: computes the stages; None: this process.

    Returns:
        One result per artifact, the teacher's first, and the candidates that failed for a reason
        that the user can mend.

    Raises:
        UserError: another run works in the same folder, or the teacher fails for such a reason.
            What was finished stays finished.
    """
    with alone(out, progress):
        ready = make_ready(recipe, out, progress, allowed, reuse_other_machine, executor)
        return run_plan(ready, out, command, report)


@contextmanager
def alone(out: Path, progress: Progress) -> Iterator[None]:
    """One run at a time in a folder; in others, they take turns (compress/utils/alone.py).

    Raises:
        UserError: another run works in the same folder.
    """
    runs = out / RUNS
    mark_own(runs)
    if not processes().is_first:  # that one is alone for all
        yield
        return
    try:
        with FileLock(runs / ".lock", timeout=0):
            for left_behind in runs.glob("*/*/.*.tmp*"):  # by a run that was killed while writing
                left_behind.unlink()
            try:
                yield
            except Exception as error:
                progress.failed(error)
                raise
    except Timeout as error:
        raise UserError(
            f"Another run is working in {runs}. Wait for it, or choose another folder with --out."
        ) from error


@dataclass(frozen=True)
class Ready:
    """A recipe resolved for the machine that measures, with all that its stages need."""

    plan: Plan
    store: Store
    context: Context
    here: Machine
    executor: Executor


def make_ready(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    allowed: Sequence[str] = (),
    reuse_other_machine: bool = False,
    executor: Executor | None = None,
) -> Ready:
    """Resolve a recipe; nothing is computed but what `precision: auto` is.

    Raises:
        UserError: as `make_plan`.
    """
    executor = executor or Local()
    here, threads = executor.machine, recipe.measure.threads or executor.threads
    recipe = executor.decided(recipe, tuple(allowed), progress.note)
    plan = make_plan(recipe, here, threads, allowed)
    store = Store(out / RUNS / STAGES, reuse_other_machine, executor.shared)
    device = executor.device(recipe.device)
    context = context_of(
        recipe, out, here, threads, progress, tuple(allowed), files_of(recipe), device
    )
    return Ready(plan, store, context, here, executor)


def run_plan(
    ready: Ready, out: Path, command: str, report: Report = lambda *_: None
) -> tuple[list[Result], list[Failure]]:
    """Do what is left of a plan; as `run_recipe`, in a folder that nobody else works in."""
    asked, store, context, here = ready.plan, ready.store, ready.context, ready.here
    recipe, progress = asked.recipe, context.progress
    reasons = asked.impossible_rows
    for name, reason in reasons.items():
        progress.note(f"{name} cannot be made: {reason}")
    plan = asked.without(reasons)
    with progress.tree({stage.key: stage.title for stage in plan.stages}):
        failing = _make(plan, store, context, ready.executor)
        reasons |= failing
        timed = plan.without(failing)
        progress.instead(plan.latency.key, timed.latency.key, timed.latency.title)
        ready.executor.run([timed.latency], store, context, {timed.latency.key})
    plan = timed

    failed = [
        Failure(
            recipe=recipe.name,
            run=asked.key,
            candidate=entry.candidate,
            role=entry.role,
            control_of=entry.control_of,
            control=entry.control,
            reason=reasons[entry.candidate],
        )
        for entry in {entry.candidate: entry for entry in asked.entries}.values()
        if entry.candidate in reasons
    ]
    results = [result_of(entry, plan, store, out, command, here) for entry in plan.entries]
    folder = out / RUNS / recipe.name
    results = _with_looks(with_comparisons(results), folder / RESULTS_FILE)
    append_new(folder / RESULTS_FILE, results, progress, failed)
    report(recipe, results, failed)
    return results, failed


def _with_looks(results: list[Result], path: Path) -> list[Result]:
    """Return results that say how many files their images have judged, earlier runs' included.

    Args:
        path: of earlier runs' results.
    """
    judged = files_judged(path, results[0].data) | {row.artifact.sha256 for row in results}
    return [row.model_copy(update={"files_judged": len(judged)}) for row in results]


def _make(plan: Plan, store: Store, context: Context, executor: Executor) -> dict[str, str]:
    """Runs all stages but the latency; returns the candidates that failed, and why.

    Raises:
        UserError: a stage fails that the teacher's rows need.
        StorageFailed: nothing can be kept.
    """
    of_teacher = [end for entry in plan.entries if entry.role == "teacher" for end in entry.ends]
    needed = {stage.key for stage in in_order(of_teacher)}

    def said(stage: Stage) -> None:
        for sentence in _said_of(stage, plan.recipe, store, context):
            context.progress.once(sentence)

    broken = executor.run(plan.stages[:-1], store, context, needed, said)
    return {
        entry.candidate: broken[end.key]
        for entry in plan.entries
        for end in entry.ends
        if end.key in broken
    }


def _said_of(stage: Stage, recipe: Recipe, store: Store, context: Context) -> Iterator[str]:
    """Yield what a stage found that users must know before the next ones take hours."""
    if stage.kind == doubts.KIND:
        yield from doubts.load(store.folder(stage))
    if stage.kind == data.KIND:
        images = context.data(store.folder(stage)).indices("validation")
        if few := too_few_images(recipe, len(images)):
            yield few


def context_of(
    recipe: BaseRecipe,
    out: Path,
    here: Machine,
    threads: int,
    progress: Progress,
    allowed: tuple[str, ...],
    files: Mapping[str, Path] | None = None,
    device: "torch.device | None" = None,
) -> Context:
    """What the stages of a recipe are told beside their settings and inputs.

    Args:
        device: that networks train on; None: what the recipe asks for, on this machine.
    """
    return Context(
        seed=derive(recipe.seed, "run"),
        device=device or device_of(recipe.device),
        threads=threads,
        allowed=allowed,
        progress=progress,
        data_path=None if recipe.data.path is None else Path(recipe.data.path),
        files=files or {},
        tables=out / RUNS / TABLES,
        machine=here,
        tolerance=recipe.measure.keypoint_tolerance,
    )


def append_new(
    path: Path, results: list[Result], progress: Progress, failed: Sequence[Failure] = ()
) -> None:
    """Appends unless these are the newest there: a run that re-used everything adds nothing."""
    if not processes().is_first:
        return
    try:
        known = read(path) if path.is_file() else None
    except UserError as error:  # of an older version, or damaged: kept, but not built upon
        os.replace(path, path.with_suffix(".jsonl.old"))
        progress.note(f"{error} It is kept as {path.with_suffix('.jsonl.old').name}.")
        known = None
    if known is None or known.rows != results or known.failed != list(failed):
        append(path, results, failed)
