"""Cascades that are judged: networks of the stages, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compress.cascade import stage_further as cascade_further
from compress.cascade import stages as cascade_judged
from compress.cascade.evaluate import verdict
from compress.cascade.recipe import CascadeRecipe
from compress.cascade.search import (
    TEACHER,
    Combination,
    Option,
)
from compress.methods.context import Context
from compress.models.provenance import Provenance
from compress.results.schema import (
    RowKey,
    Runtime,
    Verdict,
)
from compress.utils.errors import UserError
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.executor import Executor
from compress.workflow.plan import Plan
from compress.workflow.stages import accuracy

Chosen = Mapping[str, "Network"]  # by stage, in the order of the path


@dataclass(frozen=True)
class Network:
    """A deployed network that a stage may have."""

    option: Option
    artifact: Stage


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


@dataclass(frozen=True)
class Run:
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


def do(run: Run, stage: Stage, data_path: Path | None = None) -> None:
    context = replace(run.context, data_path=data_path) if data_path else run.context
    with context.progress.tree({stage.key: stage.title}):
        run.executor.run([stage], run.store, context, {stage.key})


def networks_of(run: Run, stage: str, runtime: Runtime) -> dict[str, Network]:
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


def judge(run: Run, cascade: Chosen, runtime: Runtime, path: Sequence[str]) -> Stage:
    """Put the networks together and judge them on the validation photographs."""
    parts = [
        cascade_judged.Part(stage, run.recipe.stages[stage], network.artifact)
        for stage, network in cascade.items()
    ]
    name, minimum = _name(run.recipe, cascade, path), run.recipe.min_probability
    judged = cascade_judged.plan(
        name,
        parts,
        runtime,
        minimum,
        run.context.machine,
        run.data,
        run.context.threads,
        run.recipe.told(path),
    )
    do(run, judged)
    return judged


def member_of(
    run: Run,
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
    judged = judge(run, cascade, runtime, path)
    further = {}
    for which, (place, fingerprint) in run.further.items():
        further[which] = cascade_further.plan(which, fingerprint, judged)
        do(run, further[which], place)
    networks = {stage: network.option.candidate for stage, network in cascade.items()}
    name, told = _name(run.recipe, cascade, path), tuple(run.recipe.told(path))
    return Member(name, networks, runtime, judged, further, predicted, told)


def _name(recipe: CascadeRecipe, cascade: Chosen, path: Sequence[str]) -> str:
    candidates = [network.option.candidate for network in cascade.values()]
    name = TEACHER if set(candidates) == {TEACHER} else " + ".join(candidates)
    return name if list(path) == recipe.paths[0] else f"{' + '.join(path)}: {name}"


def verdict_of(run: Run, stage: Stage) -> Verdict:
    judged = cascade_judged.load(run.store.folder(stage))
    return verdict(judged, names_things=any(x.probability is not None for x in judged))
