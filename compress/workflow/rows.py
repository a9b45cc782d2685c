"""What a finished run tells of each planned row: a result, and what a reader must know of it."""

from pathlib import Path
from typing import Any

from compress.data.dataset import Dataset
from compress.export.artifact import Artifact
from compress.methods import discover
from compress.methods.decided import Decided
from compress.models.provenance import Provenance
from compress.results.schema import Accuracy, Machine, Result, StepReport
from compress.workflow.cache import DECIDE, MEASURED_ON, OF_A_MACHINE, Stage, Store
from compress.workflow.origins import origins_of
from compress.workflow.plan import Plan, in_order
from compress.workflow.planned_row import PlannedRow

FEW_IMAGES = 100  # validation images below which a report warns


def result_of(
    entry: PlannedRow, plan: Plan, store: Store, out: Path, command: str, here: Machine
) -> Result:
    from compress.workflow.stages import accuracy, doubts, latency, layers, saliency

    artifact = Artifact.load(store.folder(entry.artifact))
    timed = latency.load(store.folder(plan.latency))
    scored = accuracy.load(store.folder(entry.accuracy))
    data = Dataset.load(store.folder(plan.data), Path())
    past = Provenance.load(store.folder(entry.model))
    return Result(
        recipe=plan.recipe.name,
        run=plan.key,
        data=plan.data.key,
        command=command,
        measured_at=timed.measured_at,
        candidate=entry.candidate,
        role=entry.role,
        control_of=entry.control_of,
        control=entry.control,
        lineage=list(past.lineage),
        origins=origins_of(plan.recipe, entry.control_of or entry.candidate),
        artifact=artifact.facts(out, entry.runtime),
        accuracy=scored,
        latency=timed.latency[entry.key],
        **timed.first_run[entry.key]._asdict(),
        training=past.training,
        steps=step_reports(entry.model, store),
        layers=layers.load(store.folder(entry.layers)) if entry.layers else [],
        saliency=saliency.load(store.folder(entry.saliency)) if entry.saliency else None,
        dropped=past.dropped if _judged(entry) else None,
        notes=[
            *_notes(entry, artifact, past, scored, data),
            *(doubts.load(store.folder(entry.doubts)) if entry.doubts else []),
            *_of_other_machine(entry, store),
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
    before = Provenance.load(store.folder(previous)).steps
    own = Provenance.load(store.folder(model)).steps[len(before) :]
    if said and own:
        joined = own[0].model_copy(update={"notes": [*said.notes, *own[0].notes]})
        return [*found, joined]
    return [*found, *([said] if said else []), *own]


def of_other_machine(stage: Stage, store: Store) -> list[str]:
    """Return in a sentence what of another machine was taken in the place of a stage, if any."""
    there = store.made_on_other_machine(stage)
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


def _of_other_machine(entry: PlannedRow, store: Store) -> list[str]:
    """Return what of a row is of another machine; the teacher's row tells of the teacher."""
    stages = in_order([entry.model])
    told = [stage for stage in stages if entry.role == "teacher" or stage.kind != "teacher"]
    return [sentence for stage in told for sentence in of_other_machine(stage, store)]


def _judged(entry: PlannedRow) -> bool:
    """Whether it was in the row's runtime that the last step measured its file, if any did."""
    method = discover().get(entry.model.settings.get("step", ""))
    return entry.runtime in ((method and method.runtimes) or ("onnxruntime",))


def _notes(
    entry: PlannedRow,
    artifact: Artifact,
    past: Provenance,
    scored: Accuracy,
    data: Dataset,
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
        notes.append(f"{len(data.skipped)} unreadable images were left out (see the run's log).")
    if scored.images < FEW_IMAGES:
        notes.append(
            f"There are only {scored.images} validation images: an accuracy is known to "
            f"± {(scored.top1.high - scored.top1.low) / 2:.0%} at best."
        )
    return notes
