"""Rows of the table: what is known of a cascade that was judged and timed."""

from collections.abc import Iterator

from PIL import Image

from compress.cascade import stage_latency as cascade_latency
from compress.cascade import stages as cascade_judged
from compress.cascade.bundle import sha256_of_all
from compress.cascade.members import Member, Run, verdict_of
from compress.cascade.search import (
    TEACHER,
)
from compress.export.artifact import Artifact
from compress.models.provenance import Provenance
from compress.results.schema import (
    Accuracy,
    ArtifactFacts,
    CascadeFacts,
    Origin,
    Result,
    RowKey,
    Saliency,
    Verdict,
)
from compress.utils.errors import UserError
from compress.workflow.cache import Stage
from compress.workflow.origins import images_of, origins_of
from compress.workflow.stages import saliency


def result_of(run: Run, member: Member, timing: Stage, slower: float) -> Result:
    timed = cascade_latency.load(run.store.folder(timing))
    said = verdict_of(run, member.judged)
    return Result(
        recipe=run.recipe.name,
        run=timing.key,
        data=run.data.key,
        command=run.command,
        measured_at=timed.measured_at,
        candidate=member.name,
        role="teacher" if member.name == TEACHER else "candidate",
        lineage=[f"{stage}: {network}" for stage, network in member.networks.items()],
        origins=_origins(run, member),
        notes=list(_notes(run, member)),
        dropped=_why_dropped(member),
        artifact=_facts(run, member),
        accuracy=_accuracy(run, member, said),
        latency=[timed.latency[member.key]],
        pipeline=_cascade_facts(run, member, said, slower),
        saliency=_saliency(run, member),
        machine=run.context.machine,
    )


def _why_dropped(member: Member) -> str | None:
    if not member.told:
        return None
    told = ", ".join(member.told)
    return f"It shows what a perfect stage would be worth: {told} are annotated here, not found."


def _origins(run: Run, member: Member) -> list[Origin]:
    """Return what the networks are made of, each once, and the photographs they are judged on."""
    of_stages = [
        origin
        for stage, candidate in member.networks.items()
        for origin in origins_of(run.plans[stage].recipe, candidate)
    ]
    return list(dict.fromkeys([*of_stages, images_of(run.recipe.data)]))


def _notes(run: Run, member: Member) -> Iterator[str]:
    """Say which networks learned from images without labels."""
    for stage in member.networks:
        artifact = member.judged.inputs[cascade_judged.role(stage)]
        training = Provenance.load(run.store.folder(artifact.inputs["model"])).training
        if training is not None and training.unlabelled_images:
            yield (
                f"{stage} also learned from {training.unlabelled_images} unlabelled images: if it "
                "is judged or used on these, that is transductive."
            )


def _accuracy(run: Run, member: Member, said: Verdict) -> Accuracy:
    if said.top1 is None:
        raise UserError(f"{run.recipe.name}: the last stage of every path must name things.")
    judged = cascade_judged.load(run.store.folder(member.judged))
    correct = "".join("1" if x.rank == 1 else "0" for x in judged)
    return Accuracy(images=said.images, top1=said.top1, top5=said.top5, correct=correct)


def _cascade_facts(run: Run, member: Member, said: Verdict, slower: float) -> CascadeFacts:
    found = member.predicted
    return CascadeFacts(
        networks=member.networks,
        predicted_s=None if found is None else found.predicted_s * slower,
        predicted_top1=None if found is None else found.predicted_top1,
        verdict=said,
        listed={
            name: cascade_judged.load(run.store.folder(stage))
            for name, stage in member.further.items()
        },
    )


def _saliency(run: Run, member: Member) -> Saliency | None:
    """Return where the last network looks in what it is shown, if its recipe asks for that."""
    stage, candidate = list(member.networks.items())[-1]
    for row in run.plans[stage].entries:
        if row.key == RowKey(candidate, member.runtime) and row.saliency is not None:
            return saliency.load(run.store.folder(row.saliency))
    return None


def _facts(run: Run, member: Member) -> ArtifactFacts:
    """Return what is known of the folder: of the files of all networks together."""
    folder = run.store.folder(member.judged)
    inputs = [i for role, i in member.judged.inputs.items() if role != "data"]
    files = [Artifact.load(run.store.folder(artifact)) for artifact in inputs]
    macs = [file.macs for file in files]
    width, height = _photograph_size(run)
    return ArtifactFacts(
        path=(folder / cascade_judged.FOLDER).relative_to(run.out).as_posix(),
        sha256=sha256_of_all(file.sha256 for file in files),
        runtime=member.runtime,
        size_bytes=sum(file.size_bytes for file in files),
        parameters=sum(file.parameters for file in files),
        macs=None if None in macs else sum(x for x in macs if x is not None),
        uncounted_operations=sorted({o for file in files for o in file.uncounted_operations}),
        input_height=height,
        input_width=width,
    )


def _photograph_size(run: Run) -> tuple[int, int]:
    data = run.context.data(run.store.folder(run.data))
    with Image.open(data.paths(data.indices("validation")[:1])[0]) as image:
        return image.size
