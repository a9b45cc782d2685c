"""Runs a recipe: plan, stages, results, report. This file reads as the pipeline."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from compress.measure.machine import machine, usable_threads
from compress.measure.relative import with_comparisons
from compress.methods.context import Context
from compress.recipe.schema import BaseRecipe, Recipe
from compress.results.file import RESULTS_FILE, append, files_judged, read
from compress.results.schema import Failure, Machine, Result
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.utils.seeding import derive
from compress.workflow.cache import Stage, Store
from compress.workflow.claim import too_few_images
from compress.workflow.plan import Plan, files_of, in_order, make_plan
from compress.workflow.precision import Precisions, resolved
from compress.workflow.rows import of_other_machine, result_of
from compress.workflow.stages import data, doubts

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
) -> tuple[list[Result], list[Failure]]:
    """Does everything a recipe asks for that was not done before.

    Args:
        out: gets `runs/` (stages, results).
        command: the command line that does the same, kept in every result.
        reuse_other_machine: take what another machine decided or trained, as `Store` does.

    Returns:
        One result per artifact, the teacher's first, and the candidates that failed for a reason
        that the user can mend.

    Raises:
        UserError: another run works in the same folder, or the teacher fails for such a reason.
            What was finished stays finished.
    """
    with alone(out, progress):
        ready = make_ready(recipe, out, progress, allowed, reuse_other_machine)
        return run_plan(ready, out, command, report)


@contextmanager
def alone(out: Path, progress: Progress) -> Iterator[None]:
    """One run at a time in a folder; in others, they take turns (compress/utils/alone.py).

    Raises:
        UserError: another run works in the same folder.
    """
    runs = out / RUNS
    runs.mkdir(parents=True, exist_ok=True)
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
    """A recipe resolved on this machine, with all that its stages need."""

    plan: Plan
    store: Store
    context: Context
    here: Machine


def make_ready(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    allowed: Sequence[str] = (),
    reuse_other_machine: bool = False,
) -> Ready:
    """Resolve a recipe; nothing is computed but what `precision: auto` is here.

    Raises:
        UserError: as `make_plan`.
    """
    here = machine()
    threads = recipe.measure.threads or usable_threads()
    recipe = with_precisions(recipe, here, out, tuple(allowed), progress.note)
    plan = make_plan(recipe, here, threads, allowed)
    store = Store(out / RUNS / STAGES, reuse_other_machine)
    context = context_of(recipe, out, here, threads, progress, tuple(allowed), files_of(recipe))
    return Ready(plan, store, context, here)


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
        failing = _make(plan, store, context)
        reasons |= failing
        timed = plan.without(failing)
        progress.instead(plan.latency.key, timed.latency.key, timed.latency.title)
        run_stage(timed.latency, store, context)
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


def _make(plan: Plan, store: Store, context: Context) -> dict[str, str]:
    """Runs all stages but the latency; returns the candidates that failed, and why.

    Raises:
        UserError: a stage fails that the teacher's rows need.
    """
    of_teacher = [end for entry in plan.entries if entry.role == "teacher" for end in entry.ends]
    needed = {stage.key for stage in in_order(of_teacher)}
    broken: dict[str, str] = {}  # keys of stages, and why they could not be done
    for stage in plan.stages[:-1]:
        before = [broken[input_.key] for input_ in stage.inputs.values() if input_.key in broken]
        if before:
            broken[stage.key] = before[0]
            context.progress.stage(stage.key, "skipped")
            continue
        try:
            run_stage(stage, store, context)
            for sentence in _said_of(stage, plan.recipe, store, context):
                context.progress.once(sentence)
        except UserError as error:
            if stage.key in needed:
                raise
            broken[stage.key] = str(error)
            context.progress.stage(stage.key, "failed", str(error))
            context.progress.failed(error)
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


def with_precisions(
    recipe: Recipe,
    here: Machine,
    out: Path,
    allowed: tuple[str, ...],
    note: Callable[[str], None] = lambda _: None,
) -> Recipe:
    """Return the recipe with `precision: auto` decided for this machine."""
    tables = out / RUNS / TABLES
    return resolved(recipe, Precisions(here, _device(recipe.device), tables, allowed, note))


def context_of(
    recipe: BaseRecipe,
    out: Path,
    here: Machine,
    threads: int,
    progress: Progress,
    allowed: tuple[str, ...],
    files: Mapping[str, Path] | None = None,
) -> Context:
    """What the stages of a recipe are told beside their settings and inputs."""
    return Context(
        seed=derive(recipe.seed, "run"),
        device=_device(recipe.device),
        threads=threads,
        allowed=allowed,
        progress=progress,
        data_path=None if recipe.data.path is None else Path(recipe.data.path),
        files=files or {},
        tables=out / RUNS / TABLES,
        machine=here,
        tolerance=recipe.measure.keypoint_tolerance,
    )


def run_stage(stage: Stage, store: Store, context: Context) -> None:
    """Runs one stage unless it is done; its inputs are."""
    if store.is_done(stage):
        context.progress.stage(stage.key, "reused", store.folder(stage).name)
        for sentence in of_other_machine(stage, store):
            context.progress.note(sentence)
        return
    work = stage.run
    assert work is not None
    context.progress.stage(stage.key, "running")
    seconds = store.compute(
        stage, lambda folder: work(stage, store.folders(stage), folder, context)
    )
    context.progress.stage(stage.key, "done", f"in {seconds:.0f} s")


def _device(wanted: str) -> torch.device:
    cuda = torch.cuda.is_available()
    if wanted == "cuda" and not cuda:
        raise UserError("device: cuda was asked for, but torch finds no CUDA device: use auto.")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if cuda and wanted != "cpu" else "cpu")


def append_new(
    path: Path, results: list[Result], progress: Progress, failed: Sequence[Failure] = ()
) -> None:
    """Appends unless these are the newest there: a run that re-used everything adds nothing."""
    try:
        known = read(path) if path.is_file() else None
    except UserError as error:  # of an older version, or damaged: kept, but not built upon
        os.replace(path, path.with_suffix(".jsonl.old"))
        progress.note(f"{error} It is kept as {path.with_suffix('.jsonl.old').name}.")
        known = None
    if known is None or known.rows != results or known.failed != list(failed):
        append(path, results, failed)
