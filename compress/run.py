"""Runs a recipe: plan, stages, results, report. This file reads as the pipeline."""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from compress import steps
from compress.artifact import Artifact
from compress.budget import Budget
from compress.candidate import History
from compress.comparison import with_comparisons
from compress.context import Context
from compress.data.pictures import DataSet
from compress.data.targets import labels_of
from compress.decided import Decided
from compress.errors import UserError
from compress.input_spec import InputSpec
from compress.measure.machine import machine, usable_threads
from compress.measure.points import Bounds
from compress.measure.right import judge
from compress.plan import Entry, Plan, in_order, make_plan, weights_path
from compress.progress import Progress
from compress.recipe import Asked, Recipe
from compress.report.write import write_report
from compress.results import Accuracy, Failure, Latency, Machine, Result, StepReport
from compress.results_file import RESULTS_FILE, append, read
from compress.seeding import derive
from compress.stage import DECIDE, MEASURED_ON, OF_A_MACHINE, Stage, Store
from compress.training.precision import Precisions, resolved

FEW_PICTURES = 100  # validation pictures below which a report warns
RUNS, REPORTS, STAGES, TABLES = "runs", "reports", "stages", "latency_tables"


def run_recipe(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    command: str,
    allowed: Sequence[str] = (),
    elsewhere: bool = False,
) -> tuple[list[Result], list[Failure]]:
    """Does everything a recipe asks for that was not done before, and writes the report.

    Args:
        out: gets `runs/` (stages, results) and `reports/<recipe>/`.
        command: the command line that does the same, kept in every result.
        elsewhere: take what another machine decided or trained, as `Store` does.

    Returns:
        One result per artifact, the teacher's first, and the candidates that failed for a reason
        that the user can mend.

    Raises:
        UserError: another run works in the same folder, or the teacher fails for such a reason.
            What was finished stays finished.
    """
    with alone(out, progress):
        return _run(recipe, out, progress, command, tuple(allowed), elsewhere)


@contextmanager
def alone(out: Path, progress: Progress) -> Iterator[None]:
    """One run at a time: two on one machine would also spoil each other's timings.

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


def _run(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    command: str,
    allowed: tuple[str, ...],
    elsewhere: bool,
) -> tuple[list[Result], list[Failure]]:
    here = machine()
    threads = recipe.measure.threads or usable_threads()
    recipe = with_precisions(recipe, here, out, allowed, progress.note)
    asked = make_plan(recipe, here, threads, allowed)
    store = Store(out / RUNS / STAGES, elsewhere)
    context = context_of(recipe, out, here, threads, progress, allowed, weights_path(recipe))
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
            reason=reasons[entry.candidate],
        )
        for entry in {entry.candidate: entry for entry in asked.entries}.values()
        if entry.candidate in reasons
    ]
    results = [_result(entry, plan, store, out, command, here) for entry in plan.entries]
    results = with_comparisons(results)
    folder = out / RUNS / recipe.name
    append_new(folder / RESULTS_FILE, results, progress, failed)
    title = recipe.description or recipe.name
    write_report(results, out / REPORTS / recipe.name, budget_of(recipe), title, failed=failed)
    return results, failed


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


def budget_of(recipe: Asked) -> Budget | None:
    """What the recipe asks for."""
    return None if recipe.budget is None else Budget.typed(**recipe.budget.model_dump())


def context_of(
    recipe: Asked,
    out: Path,
    here: Machine,
    threads: int,
    progress: Progress,
    allowed: tuple[str, ...],
    weights: Path | None = None,
) -> Context:
    """What the stages of a recipe are told beside their settings and inputs."""
    return Context(
        seed=derive(recipe.seed, "run"),
        fit=recipe.data.fit,
        device=_device(recipe.device),
        threads=threads,
        allowed=allowed,
        progress=progress,
        data_path=None if recipe.data.path is None else Path(recipe.data.path),
        weights_path=weights,
        tables=out / RUNS / TABLES,
        machine=here,
        bounds=recipe.measure.bounds,
    )


def run_stage(stage: Stage, store: Store, context: Context) -> None:
    """Runs one stage unless it is done; its inputs are."""
    if store.is_done(stage):
        context.progress.stage(stage.key, "reused", store.folder(stage).name)
        for sentence in _of_elsewhere(stage, store):
            context.progress.note(sentence)
        return
    module = importlib.import_module(f"compress.stages.{stage.kind}")
    context.progress.stage(stage.key, "running")
    seconds = store.compute(
        stage, lambda folder: module.run(stage, store.folders(stage), folder, context)
    )
    context.progress.stage(stage.key, "done", f"in {seconds:.0f} s")


def _device(wanted: str) -> torch.device:
    cuda = torch.cuda.is_available()
    if wanted == "cuda" and not cuda:
        raise UserError("device: cuda was asked for, but torch finds no CUDA device: use auto.")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if cuda and wanted != "cpu" else "cpu")


def _result(
    entry: Entry, plan: Plan, store: Store, out: Path, command: str, here: Machine
) -> Result:
    from compress.stages import accuracy, latency, layers, saliency

    artifact = Artifact.load(store.folder(entry.artifact))
    timed = latency.load(store.folder(plan.latency))
    row = latency.row_name(entry.candidate, entry.runtime)
    scored = accuracy.load(store.folder(entry.accuracy))
    data = DataSet.load(store.folder(plan.data), Path())
    past = History.load(store.folder(entry.model))
    return Result(
        recipe=plan.recipe.name,
        run=plan.key,
        data=plan.data.key,
        command=command,
        measured_at=timed["measured_at"],
        candidate=entry.candidate,
        role=entry.role,
        control_of=entry.control_of,
        lineage=list(past.lineage),
        artifact=artifact.facts(out, entry.runtime),
        accuracy=scored,
        latency=[Latency.model_validate(x) for x in timed["latency"][row]],
        **timed["first_run"][row],
        training=past.training,
        steps=step_reports(entry.model, store),
        layers=layers.load(store.folder(entry.layers)) if entry.layers else [],
        saliency=saliency.load(store.folder(entry.saliency)) if entry.saliency else None,
        dropped=past.dropped if _judged(entry) else None,
        notes=[
            *_notes(entry, artifact, past, scored, data, plan.recipe.measure.bounds),
            *_elsewhere(entry, store),
        ],
        machine=here,
    )


def step_reports(model: Stage, store: Store) -> list[StepReport]:
    """Return what each step up to this one has to say: what it decided, and what came of it."""
    previous = model.inputs.get("previous")
    if previous is None:
        return []
    found = step_reports(previous, store)
    decision = model.inputs.get("decision")
    said = Decided.load(store.folder(decision)).report if decision else None
    before = History.load(store.folder(previous)).steps
    own = History.load(store.folder(model)).steps[len(before) :]
    if said and own:
        joined = own[0].model_copy(update={"notes": [*said.notes, *own[0].notes]})
        return [*found, joined]
    return [*found, *([said] if said else []), *own]


def _of_elsewhere(stage: Stage, store: Store) -> list[str]:
    """Return in a sentence what of another machine was taken in the place of a stage, if any."""
    there = store.made_elsewhere(stage)
    if there is None:
        return []
    if stage.kind == DECIDE and MEASURED_ON in there:
        return [f"{stage.title} by times on another machine ({there[MEASURED_ON]['machine'][0]})."]
    precisions = " and ".join(sorted(_precisions(there)))
    here = " and ".join(sorted(_precisions(stage.settings)))
    return [f"{stage.title}: computed in {precisions} on another machine; here it would be {here}."]


def _precisions(settings: Any) -> set[str]:
    """Return all precisions that settings, theirs and those within, name."""
    if not isinstance(settings, dict):
        return set()
    own = {v for k, v in settings.items() if k in OF_A_MACHINE and isinstance(v, str)}
    return own.union(*map(_precisions, settings.values()))


def _elsewhere(entry: Entry, store: Store) -> list[str]:
    """Return what of a row is of another machine; the teacher's row tells of the teacher."""
    stages = in_order([entry.model])
    told = [stage for stage in stages if entry.role == "teacher" or stage.kind != "teacher"]
    return [sentence for stage in told for sentence in _of_elsewhere(stage, store)]


def _judged(entry: Entry) -> bool:
    """Whether it was in the row's runtime that the last step measured its file, if any did."""
    step = steps.discover().get(entry.model.settings.get("step", ""))
    return entry.runtime in getattr(step, "RUNTIMES", ("onnxruntime",))


def _notes(
    entry: Entry,
    artifact: Artifact,
    past: History,
    scored: Accuracy,
    data: DataSet,
    bounds: Bounds,
) -> list[str]:
    """What a reader must know of a row."""
    notes = []
    if past.dropped is not None and not _judged(entry):
        notes.append(f"Dropped in onnxruntime, where it was measured: {past.dropped}")
    if artifact.uncounted_operations:
        notes.append(f"MACs leave out {', '.join(artifact.uncounted_operations)}.")
    if artifact.macs is None and artifact.path.suffix == ".onnx":
        notes.append("MACs could not be counted: shapes are unknown.")
    if entry.role != "teacher" or entry.runtime == "torch":
        return notes
    if data.skipped:
        notes.append(f"{len(data.skipped)} unreadable pictures were left out (see the run's log).")
    if scored.pictures < FEW_PICTURES:
        notes.append(
            f"There are only {scored.pictures} validation pictures: an accuracy is known to "
            f"± {(scored.top1.high - scored.top1.low) / 2:.0%} at best."
        )
    guess, share = _best_guess(data, artifact.spec, bounds)
    if scored.top1.low <= share:
        notes.append(
            f"The teacher is no better than always naming {guess} ({share:.1%}): check the order "
            f"of its {'points' if data.points else 'classes'}, mean, std and image_size."
        )
    return notes


def _best_guess(data: DataSet, spec: InputSpec, bounds: Bounds) -> tuple[str, float]:
    """What to answer without a look at the picture, and the share of pictures it is right for."""
    validation = data.indices("validation")
    if not spec.points:
        labels = data.labels[validation]
        return "the commonest class", float(np.bincount(labels).max() / len(labels))
    middle = np.median(labels_of(data, spec)[data.indices("train")], axis=0)
    answers = np.tile(middle, (len(validation), 1))
    return "the middle place", float(judge(data, validation, spec, bounds)(answers).mean())


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
