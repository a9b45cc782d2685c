"""Runs a cascade's recipe: each stage's own recipe, the search, the front measured end to end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from PIL import Image

from compress.cascade import (
    stage_further as cascade_further,
)
from compress.cascade import (
    stage_latency as cascade_latency,
)
from compress.cascade import (
    stages as cascade_judged,
)
from compress.cascade.answer import NETWORK
from compress.cascade.bundle import sha256_of_all
from compress.cascade.evaluate import verdict
from compress.cascade.recipe import AnyRecipe, CascadeRecipe
from compress.cascade.search import (
    TEACHER,
    Combination,
    Option,
    Way,
    combinations,
    covering,
    front,
)
from compress.export.artifact import Artifact
from compress.measure.relative import with_comparisons
from compress.methods.context import Context
from compress.models.provenance import Provenance
from compress.recipe.schema import Recipe
from compress.results.file import RESULTS_FILE
from compress.results.schema import (
    Accuracy,
    ArtifactFacts,
    CascadeFacts,
    Failure,
    Origin,
    Result,
    RowKey,
    Runtime,
    Verdict,
)
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.executor import Executor
from compress.workflow.executors.local import Local
from compress.workflow.origins import images_of, origins_of
from compress.workflow.plan import Plan, make_plan
from compress.workflow.run import (
    RUNS,
    STAGES,
    Report,
    alone,
    append_new,
    context_of,
    run_recipe,
)
from compress.workflow.stages import accuracy
from compress.workflow.stages import data as data_stage
from compress.workflow.too_few_images import too_few_images

SERVED: Runtime = "torch"


@dataclass(frozen=True)
class Network:
    """A deployed network that a stage may have."""

    option: Option
    artifact: Stage


Chosen = Mapping[str, Network]  # by stage, in the order of the path


@dataclass(frozen=True)
class Member:
    """A cascade that is measured end to end."""

    name: str
    networks: dict[str, str]  # stage -> candidate
    runtime: Runtime
    judged: Stage
    further: dict[str, Stage]  # judged too, by the name that the recipe gives the photographs
    predicted: Combination | None = None
    told: tuple[str, ...] = ()  # points that it does not find but takes from annotations

    @property
    def key(self) -> RowKey:
        """Return what its row is addressed by."""
        return RowKey(self.name, self.runtime)


def run_any(
    loaded: AnyRecipe,
    out: Path,
    progress_of: Callable[[str], Progress],
    command: str,
    allowed: Sequence[str] = (),
    reuse_other_machine: bool = False,
    report: Report = lambda *_: None,
    executor: Executor | None = None,
) -> tuple[list[Result], list[Failure]]:
    """Run a recipe of either kind; as `run_recipe` and `run_cascade`."""
    if isinstance(loaded.asked, Recipe):
        progress = progress_of(loaded.asked.name)
        return run_recipe(
            loaded.asked, out, progress, command, allowed, reuse_other_machine, report, executor
        )
    return run_cascade(
        loaded.asked, loaded.stages, out, progress_of, command, allowed, reuse_other_machine,
        report, executor,
    )  # fmt: skip


def run_cascade(
    recipe: CascadeRecipe,
    recipes: Mapping[str, Recipe],
    out: Path,
    progress_of: Callable[[str], Progress],
    command: str,
    allowed: Sequence[str] = (),
    reuse_other_machine: bool = False,
    report: Report = lambda *_: None,
    executor: Executor | None = None,
) -> tuple[list[Result], list[Failure]]:
    """Do everything a cascade's recipe asks for that was not done before.

    Args:
        recipes: of the stages, by stage.
        progress_of: makes the progress display of a recipe's name.
        report: is told of each recipe, the stages' first, when all of it is measured.
        executor: computes the stages; None: this process.

    Returns:
        One result a cascade, the teachers' first, and the stages' candidates that failed.

    Raises:
        UserError: as `run_recipe`.
    """
    executor = executor or Local()
    failed = {
        stage: run_recipe(
            each,
            out,
            progress_of(each.name),
            command,
            allowed,
            reuse_other_machine,
            report,
            executor,
        )[1]
        for stage, each in recipes.items()
    }
    progress = progress_of(recipe.name)
    with alone(out, progress):
        store = Store(out / RUNS / STAGES, reuse_other_machine, executor.shared)
        shared = _shared(
            recipe, recipes, out, store, progress, command, tuple(allowed), failed, executor
        )
        results = _results(shared)
        append_new(out / RUNS / recipe.name / RESULTS_FILE, results, progress)
        report(recipe, results, [])
    return results, [failure for found in failed.values() for failure in found]


@dataclass(frozen=True)
class _Shared:
    """What all parts of one run share."""

    recipe: CascadeRecipe
    out: Path
    command: str
    store: Store
    context: Context
    executor: Executor
    data: Stage
    plans: Mapping[str, Plan]  # by stage of the cascade, without candidates that failed
    further: Mapping[str, tuple[Path, str]]  # path and fingerprint of photographs, by name


def _shared(
    recipe: CascadeRecipe,
    recipes: Mapping[str, Recipe],
    out: Path,
    store: Store,
    progress: Progress,
    command: str,
    allowed: tuple[str, ...],
    failed: Mapping[str, Sequence[Failure]],
    executor: Executor,
) -> _Shared:
    here, threads = executor.machine, recipe.measure.threads or executor.threads
    # Of further photographs, as of all images, contents count and not their place.
    paths = {name: Path(path) for name, path in recipe.also_judge.items()}
    return _Shared(
        recipe,
        out,
        command,
        store,
        context_of(
            recipe, out, here, threads, progress, allowed, device=executor.device(recipe.device)
        ),
        executor,
        data_stage.plan(recipe.data, recipe.seed, allowed, to_train_on=False),
        {
            stage: _plan(each, executor, out, allowed, failed[stage])
            for stage, each in recipes.items()
        },
        {name: (path, data_stage.fingerprint(path)) for name, path in paths.items()},
    )


def _plan(
    recipe: Recipe,
    executor: Executor,
    out: Path,
    allowed: tuple[str, ...],
    failed: Sequence[Failure],
) -> Plan:
    """Return what was planned of a stage's recipe, without the candidates that failed."""
    threads = recipe.measure.threads or executor.threads
    recipe = executor.decided(recipe, allowed)
    plan = make_plan(recipe, executor.machine, threads, allowed)
    return plan.without({failure.candidate for failure in failed})


def _results(run: _Shared) -> list[Result]:
    """Judge cascades, predict all, and measure the front of them; the teachers' come first."""
    _do(run, run.data)
    photographs = run.context.data(run.store.folder(run.data)).indices("validation")
    if few := too_few_images(run.recipe, len(photographs)):
        run.context.progress.note(few)
    runtime = run.recipe.measure.runtimes[0]
    networks = {stage: _networks(run, stage, runtime) for stage in run.plans}
    teachers, ways = [], []
    for path in run.recipe.paths:
        if run.recipe.told(path):
            teachers.append(_told(run, path, networks, runtime))
            continue
        teacher, way = _covered(run, {stage: networks[stage] for stage in path}, runtime)
        teachers.append(teacher)
        ways.append(way)
    members = [*teachers, *_served(run)]
    options = {stage: [x.option for x in found.values()] for stage, found in networks.items()}
    for found in front(list(combinations(ways, options))):
        chosen = zip(found.way, found.candidates, strict=True)
        cascade = {stage: networks[stage][candidate] for stage, candidate in chosen}
        members.append(_member(run, cascade, runtime, found))
    members = list({(m.runtime, m.name): m for m in members}.values())
    timing = _timed(run, members)
    slower = _slower(run, teachers[0], ways[0], timing)
    return with_comparisons([_result(run, member, timing, slower) for member in members])


def _do(run: _Shared, stage: Stage, data_path: Path | None = None) -> None:
    context = replace(run.context, data_path=data_path) if data_path else run.context
    with context.progress.tree({stage.key: stage.title}):
        run.executor.run([stage], run.store, context, {stage.key})


def _networks(run: _Shared, stage: str, runtime: Runtime) -> dict[str, Network]:
    """Return teacher and candidates of a stage's recipe that run in the runtime, by name.

    Raises:
        UserError: the recipe does not measure in the runtime.
    """
    found = {}
    for entry in run.plans[stage].entries:
        if entry.runtime != runtime or entry.role == "control":
            continue
        if Provenance.load(run.store.folder(entry.model)).dropped is not None:
            continue
        right = accuracy.load(run.store.folder(entry.accuracy)).top1.value
        found[entry.candidate] = Network(Option(entry.candidate, right), entry.artifact)
    if TEACHER not in found:
        raise UserError(
            f"stages.{stage}: its recipe does not measure in {runtime}: add it to that "
            "recipe's measure.runtimes."
        )
    return found


def _covered(
    run: _Shared, networks: Mapping[str, Mapping[str, Network]], runtime: Runtime
) -> tuple[Member, Way]:
    """Judge cascades that cover a path's networks.

    Args:
        networks: by stage, in the order of the path, and by candidate.

    Returns:
        The teachers' cascade, and what predictions are made of.
    """
    covers = covering({stage: list(found) for stage, found in networks.items()})
    cascades = [
        {stage: networks[stage][candidate] for stage, candidate in cover.items()}
        for cover in covers
    ]
    verdicts = [
        _verdict(run, _judged(run, cascade, runtime, tuple(networks))) for cascade in cascades
    ]
    teacher = _member(run, cascades[0], runtime)
    return teacher, _way(tuple(networks), covers, verdicts)


def _told(
    run: _Shared,
    path: Sequence[str],
    networks: Mapping[str, Mapping[str, Network]],
    runtime: Runtime,
) -> Member:
    """Judge the teachers behind annotations: what perfect first stages would be worth."""
    teachers = {stage: networks[stage][TEACHER] for stage in run.recipe.found(path)}
    return _member(run, teachers, runtime, path=path)


def _judged(run: _Shared, cascade: Chosen, runtime: Runtime, path: Sequence[str]) -> Stage:
    """Put the networks together and judge them on the validation photographs."""
    parts = [
        cascade_judged.Part(stage, run.recipe.stages[stage], network.artifact)
        for stage, network in cascade.items()
    ]
    name, minimum = _name(run.recipe, cascade, path), run.recipe.min_probability
    judged = cascade_judged.plan(
        name, parts, runtime, minimum, run.context.machine, run.data, run.recipe.told(path)
    )
    _do(run, judged)
    return judged


def _member(
    run: _Shared,
    cascade: Chosen,
    runtime: Runtime,
    predicted: Combination | None = None,
    path: Sequence[str] | None = None,
) -> Member:
    """Put the networks together and judge them on the validation photographs and others.

    Args:
        path: its stages, where some of them are annotations.
    """
    path = path or list(cascade)
    judged = _judged(run, cascade, runtime, path)
    further = {}
    for which, (place, fingerprint) in run.further.items():
        further[which] = cascade_further.plan(which, fingerprint, judged)
        _do(run, further[which], place)
    networks = {stage: network.option.candidate for stage, network in cascade.items()}
    name, told = _name(run.recipe, cascade, path), tuple(run.recipe.told(path))
    return Member(name, networks, runtime, judged, further, predicted, told)


def _name(recipe: CascadeRecipe, cascade: Chosen, path: Sequence[str]) -> str:
    candidates = [network.option.candidate for network in cascade.values()]
    name = TEACHER if set(candidates) == {TEACHER} else " + ".join(candidates)
    return name if list(path) == recipe.paths[0] else f"{' + '.join(path)}: {name}"


def _verdict(run: _Shared, stage: Stage) -> Verdict:
    judged = cascade_judged.load(run.store.folder(stage))
    return verdict(judged, names_things=any(x.probability is not None for x in judged))


def _way(
    stages: tuple[str, ...], covers: Sequence[Mapping[str, str]], verdicts: Sequence[Verdict]
) -> Way:
    """Return what the cascades that cover a path's networks say of it.

    Args:
        covers: their candidates by stage; the first is the teachers'.
        verdicts: of each.
    """
    rests_s = [
        sum(s for part, s in said.parts_s.items() if not part.endswith(NETWORK))
        for said in verdicts
    ]
    taken_s: dict[tuple[str, str], list[float]] = {}
    for cover, said in zip(covers, verdicts, strict=True):
        for network in cover.items():
            taken_s.setdefault(network, []).append(said.parts_s[f"{network[0]}{NETWORK}"])
    network_s = {network: median(seconds) for network, seconds in taken_s.items()}
    top1 = verdicts[0].top1.value if verdicts[0].top1 else 0.0
    return Way(stages, median(rests_s), network_s, top1)


def _served(run: _Shared) -> list[Member]:
    """Return the teachers' cascade as it is served from torch today, judged; none where one of
    its networks is known as a file only."""
    path = run.recipe.paths[0]
    if any(run.plans[stage].recipe.teacher.onnx is not None for stage in path):
        return []
    return [_member(run, {s: _networks(run, s, SERVED)[TEACHER] for s in path}, SERVED)]


def _timed(run: _Shared, members: Sequence[Member]) -> Stage:
    timing = cascade_latency.plan(
        run.recipe.measure,
        run.context.machine,
        run.context.threads,
        run.data,
        {member.key: member.judged for member in members},
    )
    _do(run, timing)
    return timing


def _slower(run: _Shared, teacher: Member, way: Way, timing: Stage) -> float:
    """Return how many times as long the teachers took when the front was timed as when they were
    judged: machines change, and predictions are of the machine that the front met."""
    timed = cascade_latency.load(run.store.folder(timing)).latency[teacher.key]
    judged_s = way.rest_s + sum(way.network_s[stage, TEACHER] for stage in way.stages)
    return timed.median_s / judged_s


def _result(run: _Shared, member: Member, timing: Stage, slower: float) -> Result:
    timed = cascade_latency.load(run.store.folder(timing))
    said = _verdict(run, member.judged)
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
        machine=run.context.machine,
    )


def _why_dropped(member: Member) -> str | None:
    if not member.told:
        return None
    told = ", ".join(member.told)
    return f"It shows what a perfect stage would be worth: {told} are annotated here, not found."


def _origins(run: _Shared, member: Member) -> list[Origin]:
    """Return what the networks are made of, each once, and the photographs they are judged on."""
    of_stages = [
        origin
        for stage, candidate in member.networks.items()
        for origin in origins_of(run.plans[stage].recipe, candidate)
    ]
    return list(dict.fromkeys([*of_stages, images_of(run.recipe.data)]))


def _notes(run: _Shared, member: Member) -> Iterator[str]:
    """Say which networks learned from images without labels."""
    for stage in member.networks:
        artifact = member.judged.inputs[cascade_judged.role(stage)]
        training = Provenance.load(run.store.folder(artifact.inputs["model"])).training
        if training is not None and training.unlabelled_images:
            yield (
                f"{stage} also learned from {training.unlabelled_images} unlabelled images: if it "
                "is judged or used on these, that is transductive."
            )


def _accuracy(run: _Shared, member: Member, said: Verdict) -> Accuracy:
    if said.top1 is None:
        raise UserError(f"{run.recipe.name}: the last stage of every path must name things.")
    judged = cascade_judged.load(run.store.folder(member.judged))
    correct = "".join("1" if x.rank == 1 else "0" for x in judged)
    return Accuracy(images=said.images, top1=said.top1, top5=said.top5, correct=correct)


def _cascade_facts(run: _Shared, member: Member, said: Verdict, slower: float) -> CascadeFacts:
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


def _facts(run: _Shared, member: Member) -> ArtifactFacts:
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


def _photograph_size(run: _Shared) -> tuple[int, int]:
    data = run.context.data(run.store.folder(run.data))
    with Image.open(data.paths(data.indices("validation")[:1])[0]) as image:
        return image.size
