"""Runs a pipeline's recipe: each stage's own recipe, the search, the front measured end to end."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
    stages as cascade,
)
from compress.cascade.cascade import NETWORK
from compress.cascade.evaluate import verdict
from compress.cascade.recipe import AnyRecipe, PipelineRecipe
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
from compress.measure.machine import machine, usable_threads
from compress.measure.relative import with_comparisons
from compress.methods.context import Context
from compress.models.provenance import Provenance
from compress.recipe.schema import Recipe
from compress.results.file import RESULTS_FILE
from compress.results.schema import (
    Accuracy,
    ArtifactFacts,
    Failure,
    PipelineFacts,
    Result,
    RowKey,
    Runtime,
    Verdict,
)
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.plan import make_plan
from compress.workflow.run import (
    RUNS,
    STAGES,
    Report,
    alone,
    append_new,
    context_of,
    run_recipe,
    run_stage,
    with_precisions,
)
from compress.workflow.stages import accuracy
from compress.workflow.stages import data as data_stage

SERVED: Runtime = "torch"


@dataclass(frozen=True)
class Network:
    """A deployed network that a stage may have."""

    option: Option
    artifact: Stage


@dataclass(frozen=True)
class Member:
    """A pipeline that is measured end to end."""

    name: str
    networks: dict[str, str]  # stage -> candidate
    runtime: Runtime
    judged: Stage
    further: dict[str, Stage]  # judged too, by the name that the recipe gives the photographs
    predicted: Combination | None = None

    @property
    def key(self) -> RowKey:
        """What its row is addressed by."""
        return RowKey(self.name, self.runtime)


def run_any(
    loaded: AnyRecipe,
    out: Path,
    progress_of: Callable[[str], Progress],
    command: str,
    allowed: Sequence[str] = (),
    elsewhere: bool = False,
    report: Report = lambda *_: None,
) -> tuple[list[Result], list[Failure]]:
    """Runs a recipe of either kind; as `run_recipe` and `run_pipeline`."""
    if isinstance(loaded.asked, Recipe):
        progress = progress_of(loaded.asked.name)
        return run_recipe(loaded.asked, out, progress, command, allowed, elsewhere, report)
    return run_pipeline(
        loaded.asked, loaded.stages, out, progress_of, command, allowed, elsewhere, report
    )


def run_pipeline(
    recipe: PipelineRecipe,
    recipes: Mapping[str, Recipe],
    out: Path,
    progress_of: Callable[[str], Progress],
    command: str,
    allowed: Sequence[str] = (),
    elsewhere: bool = False,
    report: Report = lambda *_: None,
) -> tuple[list[Result], list[Failure]]:
    """Does everything a pipeline's recipe asks for that was not done before; writes the reports.

    Args:
        recipes: of the stages, by stage.
        progress_of: makes the progress display of a recipe's name.

    Returns:
        One result a pipeline, the teachers' first, and the stages' candidates that failed.

    Raises:
        UserError: as `run_recipe`.
    """
    failed = {
        stage: run_recipe(each, out, progress_of(each.name), command, allowed, elsewhere, report)[1]
        for stage, each in recipes.items()
    }
    progress = progress_of(recipe.name)
    with alone(out, progress):
        store = Store(out / RUNS / STAGES, elsewhere)
        run = _Run(recipe, recipes, out, store, progress, command, tuple(allowed), failed, report)
        return run.results(), [failure for found in failed.values() for failure in found]


class _Run:
    """What all parts of one run share."""

    def __init__(
        self,
        recipe: PipelineRecipe,
        recipes: Mapping[str, Recipe],
        out: Path,
        store: Store,
        progress: Progress,
        command: str,
        allowed: tuple[str, ...],
        failed: Mapping[str, Sequence[Failure]],
        report: Report,
    ) -> None:
        self.recipe, self.out, self.store = recipe, out, store
        self.progress, self.command, self.report = progress, command, report
        self.machine = machine()
        self.threads = recipe.measure.threads or usable_threads()
        self.runtime: Runtime = recipe.measure.runtimes[0]
        self.context: Context = context_of(
            recipe, out, self.machine, self.threads, progress, allowed
        )
        self.data = data_stage.plan(recipe.data, recipe.seed, allowed, to_train_on=False)
        decided = {
            name: with_precisions(each, self.machine, out, tuple(allowed))
            for name, each in recipes.items()
        }
        self.plans = {
            name: make_plan(
                each, self.machine, each.measure.threads or usable_threads(), allowed
            ).without({failure.candidate for failure in failed[name]})
            for name, each in decided.items()
        }
        # Of further photographs, as of all pictures, contents count and not their place.
        self.further = {
            name: (Path(path), data_stage.fingerprint(Path(path)))
            for name, path in recipe.also_judge.items()
        }

    def results(self) -> list[Result]:
        self._do(self.data)
        networks = {name: self._networks(name, self.runtime) for name in self.recipe.stages}
        options = {name: [x.option for x in found.values()] for name, found in networks.items()}
        teachers, ways = [], []
        for way in self.recipe.paths:
            few = covering({name: list(networks[name]) for name in way})
            judged = [self._judged(way, chosen, networks, self.runtime) for chosen in few]
            teachers.append(self._member(way, few[0], networks, self.runtime))
            ways.append(self._way(way, few, judged))
        members = [*teachers, *self._served()]
        for found in front(list(combinations(ways, options))):
            chosen = dict(zip(found.way, found.candidates, strict=True))
            members.append(self._member(found.way, chosen, networks, self.runtime, found))
        members = list({(m.runtime, m.name): m for m in members}.values())
        timing = cascade_latency.plan(
            self.recipe.measure,
            self.machine,
            self.threads,
            self.data,
            {member.key: member.judged for member in members},
        )
        self._do(timing)
        slower = self._slower(teachers[0], ways[0], timing)
        results = with_comparisons([self._result(member, timing, slower) for member in members])
        append_new(self.out / RUNS / self.recipe.name / RESULTS_FILE, results, self.progress)
        self.report(self.recipe, results, [])
        return results

    def _do(self, stage: Stage, data_path: Path | None = None) -> None:
        context = replace(self.context, data_path=data_path) if data_path else self.context
        with self.progress.tree({stage.key: stage.title}):
            run_stage(stage, self.store, context)

    def _networks(self, name: str, runtime: Runtime) -> dict[str, Network]:
        """Teacher and candidates of a stage's recipe that run in the runtime, by name."""
        plan = self.plans[name]
        found = {}
        for entry in plan.entries:
            if entry.runtime != runtime or entry.role == "control":
                continue
            if Provenance.load(self.store.folder(entry.model)).dropped is not None:
                continue
            right = accuracy.load(self.store.folder(entry.accuracy)).top1.value
            found[entry.candidate] = Network(Option(entry.candidate, right), entry.artifact)
        if TEACHER not in found:
            raise UserError(
                f"stages.{name}: its recipe does not measure in {runtime}: add it to that "
                "recipe's measure.runtimes."
            )
        return found

    def _member(
        self,
        way: Sequence[str],
        chosen: Mapping[str, str],
        networks: Mapping[str, Mapping[str, Network]],
        runtime: Runtime,
        predicted: Combination | None = None,
    ) -> Member:
        """Puts the networks together and judges them on the validation photographs and others."""
        name = self._name(way, chosen)
        stage = self._judged(way, chosen, networks, runtime)
        further = {}
        for which, (path, fingerprint) in self.further.items():
            further[which] = cascade_further.plan(which, fingerprint, stage)
            self._do(further[which], path)
        return Member(name, dict(chosen), runtime, stage, further, predicted)

    def _judged(
        self,
        way: Sequence[str],
        chosen: Mapping[str, str],
        networks: Mapping[str, Mapping[str, Network]],
        runtime: Runtime,
    ) -> Stage:
        """Puts the networks together and judges them on the validation photographs."""
        parts = [
            cascade.Part(name, self.recipe.stages[name], networks[name][chosen[name]].artifact)
            for name in way
        ]
        name, minimum = self._name(way, chosen), self.recipe.min_probability
        stage = cascade.plan(name, parts, runtime, minimum, self.machine, self.data)
        self._do(stage)
        return stage

    def _name(self, way: Sequence[str], chosen: Mapping[str, str]) -> str:
        first = list(way) == list(self.recipe.paths[0])
        if set(chosen.values()) == {TEACHER}:
            return TEACHER if first else f"{' + '.join(way)}: {TEACHER}"
        networks = " + ".join(chosen[name] for name in way)
        return networks if first else f"{' + '.join(way)}: {networks}"

    def _served(self) -> list[Member]:
        """The teacher's pipeline as it is served from torch today; none where one of its networks
        is known as a file only."""
        way = self.recipe.paths[0]
        if any(self.plans[name].recipe.teacher.onnx is not None for name in way):
            return []
        networks = {name: self._networks(name, SERVED) for name in way}
        return [self._member(way, dict.fromkeys(way, TEACHER), networks, SERVED)]

    def _way(
        self, way: Sequence[str], few: Sequence[Mapping[str, str]], judged: Sequence[Stage]
    ) -> Way:
        """What the pipelines that cover a way's networks say of it; the first is the teachers'."""
        verdicts = [self._verdict(stage) for stage in judged]
        rests_s = [
            sum(s for part, s in said.parts_s.items() if not part.endswith(NETWORK))
            for said in verdicts
        ]
        taken_s: dict[tuple[str, str], list[float]] = {}
        for chosen, said in zip(few, verdicts, strict=True):
            for stage, candidate in chosen.items():
                seconds = said.parts_s[f"{stage}{NETWORK}"]
                taken_s.setdefault((stage, candidate), []).append(seconds)
        network_s = {network: median(seconds) for network, seconds in taken_s.items()}
        top1 = verdicts[0].top1.value if verdicts[0].top1 else 0.0
        return Way(tuple(way), median(rests_s), network_s, top1)

    def _verdict(self, stage: Stage) -> Verdict:
        judged = cascade.load(self.store.folder(stage))
        return verdict(judged, names_things=any(x.probability is not None for x in judged))

    def _slower(self, teacher: Member, way: Way, timing: Stage) -> float:
        """How many times as long the teachers took when the front was timed as when they were
        judged: machines change, and predictions are of the machine that the front met."""
        timed = cascade_latency.load(self.store.folder(timing)).latency[teacher.key]
        judged_s = way.rest_s + sum(way.network_s[stage, TEACHER] for stage in way.stages)
        return timed.median_s / judged_s

    def _result(self, member: Member, timing: Stage, slower: float) -> Result:
        timed = cascade_latency.load(self.store.folder(timing))
        judged = cascade.load(self.store.folder(member.judged))
        said = self._verdict(member.judged)
        if said.top1 is None:
            raise UserError(f"{self.recipe.name}: the last stage of every path must name things.")
        found = member.predicted
        return Result(
            recipe=self.recipe.name,
            run=timing.key,
            data=self.data.key,
            command=self.command,
            measured_at=timed.measured_at,
            candidate=member.name,
            role="teacher" if member.name == TEACHER else "candidate",
            lineage=[f"{stage}: {network}" for stage, network in member.networks.items()],
            artifact=self._facts(member),
            accuracy=Accuracy(
                pictures=said.pictures,
                top1=said.top1,
                top5=said.top5,
                correct="".join("1" if x.rank == 1 else "0" for x in judged),
            ),
            latency=[timed.latency[member.key]],
            pipeline=PipelineFacts(
                networks=member.networks,
                predicted_s=None if found is None else found.predicted_s * slower,
                predicted_top1=None if found is None else found.predicted_top1,
                verdict=said,
                listed={
                    name: cascade.load(self.store.folder(stage))
                    for name, stage in member.further.items()
                },
            ),
            machine=self.machine,
        )

    def _facts(self, member: Member) -> ArtifactFacts:
        """Of the folder: the files of all networks together."""
        folder = self.store.folder(member.judged)
        inputs = [i for role, i in member.judged.inputs.items() if role != "data"]
        files = [Artifact.load(self.store.folder(artifact)) for artifact in inputs]
        macs = [file.macs for file in files]
        width, height = self._photograph_size()
        hashes = "".join(file.sha256 for file in files)
        return ArtifactFacts(
            path=(folder / cascade.PIPELINE).relative_to(self.out).as_posix(),
            sha256=hashlib.sha256(hashes.encode()).hexdigest(),
            runtime=member.runtime,
            size_bytes=sum(file.size_bytes for file in files),
            parameters=sum(file.parameters for file in files),
            macs=None if None in macs else sum(x for x in macs if x is not None),
            uncounted_operations=sorted({o for file in files for o in file.uncounted_operations}),
            input_height=height,
            input_width=width,
        )

    def _photograph_size(self) -> tuple[int, int]:
        data = self.context.data(self.store.folder(self.data))
        with Image.open(data.paths(data.indices("validation")[:1])[0]) as picture:
            return picture.size
