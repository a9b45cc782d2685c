"""Runs a cascade's recipe: each stage's own recipe, the search, the front measured end to end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from compress.cascade import stage_latency as cascade_latency
from compress.cascade.answer import NETWORK
from compress.cascade.members import (
    Member,
    Network,
    Run,
    do,
    judge,
    member_of,
    networks_of,
    verdict_of,
)
from compress.cascade.recipe import AnyRecipe, CascadeRecipe
from compress.cascade.rows import result_of
from compress.cascade.search import (
    TEACHER,
    Way,
    combinations,
    covering,
    front,
)
from compress.cascade.unseen import refuse_seen
from compress.data.dataset import Dataset
from compress.measure.relative import with_comparisons
from compress.recipe.schema import BaseRecipe, Recipe
from compress.results.file import RESULTS_FILE
from compress.results.schema import (
    Failure,
    Result,
    Runtime,
    Verdict,
)
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.executor import Executor
from compress.workflow.executors.local import Local
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
from compress.workflow.stages import data as data_stage
from compress.workflow.too_few_images import too_few_images

SERVED: Runtime = "torch"


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
        UserError: as `run_recipe`; or a stage's recipe trains on what the cascade is judged on.
    """
    executor = executor or Local()
    store = Store(out / RUNS / STAGES, reuse_other_machine, executor.shared)
    shown = {stage: progress_of(each.name) for stage, each in recipes.items()}
    progress = progress_of(recipe.name)
    with alone(out, progress):
        _refuse_seen(recipe, recipes, out, store, progress, shown, tuple(allowed), executor)
    failed = {
        stage: run_recipe(
            each,
            out,
            shown[stage],
            command,
            allowed,
            reuse_other_machine,
            report,
            executor,
        )[1]
        for stage, each in recipes.items()
    }
    with alone(out, progress):
        shared = _shared(
            recipe, recipes, out, store, progress, command, tuple(allowed), failed, executor
        )
        results = _results(shared)
        append_new(out / RUNS / recipe.name / RESULTS_FILE, results, progress)
        report(recipe, results, [])
    return results, [failure for found in failed.values() for failure in found]


def _refuse_seen(
    recipe: CascadeRecipe,
    recipes: Mapping[str, Recipe],
    out: Path,
    store: Store,
    progress: Progress,
    shown: Mapping[str, Progress],
    allowed: tuple[str, ...],
    executor: Executor,
) -> None:
    """Refuse images to judge on that a stage's recipe trains on, before it has trained for hours.

    Args:
        shown: the progress of the stages' recipes.
    """

    def data_of(asked: BaseRecipe, display: Progress, to_train_on: bool) -> Dataset:
        threads = asked.measure.threads or executor.threads
        device = executor.device(asked.device)
        context = context_of(asked, out, executor.machine, threads, display, allowed, device=device)
        stage = data_stage.plan(asked.data, asked.seed, allowed, to_train_on=to_train_on)
        with display.tree({stage.key: stage.title}):
            executor.run([stage], store, context, {stage.key})
        return context.data(store.folder(stage))

    judged = data_of(recipe, progress, False)
    for stage, each in recipes.items():
        refuse_seen(judged, stage, data_of(each, shown[stage], True))


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
) -> Run:
    here, threads = executor.machine, recipe.measure.threads or executor.threads
    # Of further photographs, as of all images, contents count and not their place.
    paths = {name: Path(path) for name, path in recipe.also_judge.items()}
    return Run(
        recipe,
        out,
        command,
        store,
        context_of(
            recipe, out, here, threads, progress, allowed, device=executor.device(recipe.device)
        ),
        executor,
        data_stage.plan(recipe.data, recipe.seed, allowed, to_train_on=False),
        {stage: _plan(each, executor, allowed, failed[stage]) for stage, each in recipes.items()},
        {name: (path, data_stage.fingerprint(path)) for name, path in paths.items()},
    )


def _plan(
    recipe: Recipe,
    executor: Executor,
    allowed: tuple[str, ...],
    failed: Sequence[Failure],
) -> Plan:
    """Return what was planned of a stage's recipe, without the candidates that failed."""
    threads = recipe.measure.threads or executor.threads
    recipe = executor.decided(recipe, allowed)
    plan = make_plan(recipe, executor.machine, threads, allowed)
    return plan.without({failure.candidate for failure in failed})


def _results(run: Run) -> list[Result]:
    """Judge cascades, predict all, and measure the front of them; the teachers' come first."""
    do(run, run.data)
    photographs = run.context.data(run.store.folder(run.data)).indices("validation")
    if few := too_few_images(run.recipe, len(photographs)):
        run.context.progress.note(few)
    runtime = run.recipe.measure.runtimes[0]
    networks = {stage: networks_of(run, stage, runtime) for stage in run.plans}
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
        members.append(member_of(run, cascade, runtime, found))
    members = list({(m.runtime, m.name): m for m in members}.values())
    timing = _timed(run, members)
    slower = _slower(run, teachers[0], ways[0], timing)
    return with_comparisons([result_of(run, member, timing, slower) for member in members])


def _covered(
    run: Run, networks: Mapping[str, Mapping[str, Network]], runtime: Runtime
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
        verdict_of(run, judge(run, cascade, runtime, tuple(networks))) for cascade in cascades
    ]
    teacher = member_of(run, cascades[0], runtime)
    return teacher, _way(tuple(networks), covers, verdicts)


def _told(
    run: Run,
    path: Sequence[str],
    networks: Mapping[str, Mapping[str, Network]],
    runtime: Runtime,
) -> Member:
    """Judge the teachers behind annotations: what perfect first stages would be worth."""
    teachers = {stage: networks[stage][TEACHER] for stage in run.recipe.found(path)}
    return member_of(run, teachers, runtime, path=path)


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


def _served(run: Run) -> list[Member]:
    """Return the teachers' cascade as it is served from torch today, judged; none where one of
    its networks is known as a file only."""
    path = run.recipe.paths[0]
    if any(run.plans[stage].recipe.teacher.onnx is not None for stage in path):
        return []
    return [member_of(run, {s: networks_of(run, s, SERVED)[TEACHER] for s in path}, SERVED)]


def _timed(run: Run, members: Sequence[Member]) -> Stage:
    timing = cascade_latency.plan(
        run.recipe.measure,
        run.context.machine,
        run.context.threads,
        run.data,
        {member.key: member.judged for member in members},
    )
    do(run, timing)
    return timing


def _slower(run: Run, teacher: Member, way: Way, timing: Stage) -> float:
    """Return how many times as long the teachers took when the front was timed as when they were
    judged: machines change, and predictions are of the machine that the front met."""
    timed = cascade_latency.load(run.store.folder(timing)).latency[teacher.key]
    judged_s = way.rest_s + sum(way.network_s[stage, TEACHER] for stage in way.stages)
    return timed.median_s / judged_s
