"""What a search can have done: a candidate timed before it is trained, or trained to a rung."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from compress.data.input_spec import InputSpec
from compress.export.artifact import Artifact
from compress.measure.latency import speedup
from compress.methods import discover
from compress.methods.base import TEACHER
from compress.models.candidate import Candidate
from compress.models.checkpoint import save_tensors
from compress.recipe.schema import MeasureSettings, Recipe, chosen
from compress.results.schema import Result
from compress.search.schedule import Rung, untrained, without_control
from compress.tasks import task_of_data
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage
from compress.workflow.executors.executor import Executor
from compress.workflow.plan import in_order
from compress.workflow.planned_row import PlannedRow
from compress.workflow.run import Ready, make_ready, run_plan
from compress.workflow.stages import latency

TRIALS = "trials"  # the rows of all trials: runs/<recipe>/trials/results.jsonl


class TimeUp(Exception):
    """The time was up in the middle of a training, which goes on from its last epoch."""


@contextmanager
def in_time(what: str) -> Iterator[None]:
    """Tell the user where the time was up, if it was.

    Raises:
        UserError: it was.
    """
    try:
        yield
    except TimeUp:
        raise UserError(
            f"The time was up while {what}: the same command goes on with it; give more --within."
        ) from None


@dataclass(frozen=True)
class Timing:
    """How fast a candidate is in one runtime, and how large: what a budget bounds, by its names."""

    runtime: str
    speedup: float  # against the teacher in the same runtime, timed together
    latency_s: float
    max_bytes: int
    max_memory_bytes: int


@dataclass(frozen=True)
class Validation:
    """The images that candidates are judged by."""

    labels: list[int]  # a class for each; all alike where there are none
    spec: InputSpec | None  # what the teacher will answer; None: its file says so


class Lab(Protocol):
    """Where candidates are made and measured."""

    def timed(self, candidate: str) -> list[Timing]:
        """Return how fast it is before it is trained, in each runtime.

        Raises:
            UserError: it cannot be made.
        """
        ...

    def trained(self, candidate: str, rung: Rung, name: str) -> list[Result]:
        """Return its rows and the teacher's, by all validation images.

        Args:
            name: what its rows are called.

        Raises:
            UserError: it cannot be made.
            StorageFailed: no candidate can be made just now.
            TimeUp: the time was up before it was trained.
        """
        ...


class StageLab:
    """A lab whose candidates are small recipes, computed as cached stages."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        progress_of: Callable[[Callable[..., None]], Progress],
        command: str,
        allowed: Sequence[str],
        time_is_up: Callable[[], bool],
        executor: Executor | None = None,
    ) -> None:
        """
        Args:
            executor: computes the stages; None: this process.
            progress_of: makes what shows how far it is, of what is to be told of each epoch.
            command: reproduces the rows.
            time_is_up: whether no further epoch should be begun.
        """
        self._recipe, self._out, self._command = recipe, out, command
        self._allowed, self._time_is_up, self._executor = allowed, time_is_up, executor
        self.progress = progress_of(self._epoch)
        self._quick = _quick(recipe.measure)

    def images(self) -> Validation:
        """Return the validation images, before anything is trained.

        Raises:
            UserError: they cannot be read, or no candidate can be made.
        """
        ready = self._whole
        self._run([ready.plan.data], ready)
        data = ready.context.data(ready.store.folder(ready.plan.data))
        given = self._recipe.teacher
        told = task_of_data(data).predicts(data)
        validation = data.indices("validation")
        labels = data.labels[validation] if data.classes else np.zeros(len(validation), int)
        spec = given.input_spec(self._recipe.data.image_fit, **told) if given.builder else None
        return Validation(labels.tolist(), spec)

    def untrained_teacher(self, spec: InputSpec, weights: Path) -> Path:
        """Return the file of a teacher that knows nothing yet: as fast as the trained one.

        Args:
            spec: its input, and what it answers.
            weights: gets those that it is built with.
        """
        given = self._recipe.teacher
        assert given.builder is not None
        drawn = Candidate.create(
            given.builder, given.settings, spec, (), self._recipe.seed, self._allowed
        )
        save_tensors(weights, drawn.model.state_dict(), {})
        update = {"weights": str(weights), "train": None, "train_only": None}
        teacher = given.model_copy(update=update)
        recipe = self._recipe.model_copy(update={"teacher": teacher})
        ready = self._ready(recipe.candidates, self._quick, recipe=recipe)
        return self._file_of_teacher(ready)

    def teacher_is_made(self) -> bool:
        """Return whether the teacher was trained before, or needs no training."""
        ready, given = self._whole, self._recipe.teacher
        return given.train is None or ready.store.is_done(_of_teacher(ready).model)

    def teacher_file(self) -> Path:
        """Return the teacher's deployed file.

        Raises:
            UserError: it cannot be made, or not in time.
        """
        with in_time("the teacher was trained"):
            return self._file_of_teacher(self._whole)

    def teacher(self) -> list[Result]:
        """Return the teacher's rows, by all validation images.

        Raises:
            UserError: it cannot be made, or not in time.
        """
        ready = self._whole
        others = {entry.candidate for entry in ready.plan.entries if entry.role != "teacher"}
        alone = replace(ready.plan.without(others), impossible={})
        with in_time("the teacher was trained"):
            return run_plan(replace(ready, plan=alone), self._out, self._command)[0]

    def timed(self, candidate: str) -> list[Timing]:
        """Return how fast it is before it is trained, in each runtime."""
        chain = untrained(self._recipe.candidates[candidate])
        ready = self._ready({candidate: chain}, self._quick)
        plan, store = ready.plan, ready.store
        self._run([*(entry.artifact for entry in plan.entries), plan.latency], ready)
        timings = latency.load(store.folder(plan.latency))
        smallest = {key: timed[0] for key, timed in timings.latency.items()}
        teachers = {x.runtime: smallest[x.key] for x in plan.entries if x.role == "teacher"}
        return [
            Timing(
                runtime=entry.runtime,
                speedup=speedup(
                    "teacher", entry.runtime, teachers[entry.runtime], smallest[entry.key]
                ).ratio.value,
                latency_s=smallest[entry.key].median_s,
                max_bytes=Artifact.load(store.folder(entry.artifact))
                .facts(self._out, entry.runtime)
                .size_bytes,
                max_memory_bytes=timings.first_run[entry.key].peak_memory_bytes,
            )
            for entry in plan.entries
            if entry.candidate == candidate
        ]

    def trained(self, candidate: str, rung: Rung, name: str) -> list[Result]:
        """Return its rows and the teacher's, by all validation images."""
        return self._rows(self._ready({name: rung.chain}, self._quick), [name])

    def together(self, chains: Mapping[str, Sequence[Any]]) -> list[Result]:
        """Return the rows of several, timed together as the recipe asks, and the teacher's.

        Raises:
            UserError: they cannot be made, or not in time.
        """
        with in_time("the last picks were measured"):
            return self._rows(self._ready(chains, self._recipe.measure, served=True), chains)

    @cached_property
    def _whole(self) -> Ready:
        """All candidates; of which the teacher is made."""
        return self._ready(self._recipe.candidates, self._quick)

    def _run(self, ends: Sequence[Stage], ready: Ready) -> None:
        """Compute some stages, and what they build on."""
        stages = list(in_order(list(ends)))
        needed = {stage.key for stage in stages}
        with self.progress.tree({stage.key: stage.title for stage in stages}):
            ready.executor.run(stages, ready.store, ready.context, needed)

    def _file_of_teacher(self, ready: Ready) -> Path:
        stage = _of_teacher(ready).artifact
        self._run([stage], ready)
        return Artifact.load(ready.store.folder(stage)).path

    def _rows(self, ready: Ready, candidates: Container[str]) -> list[Result]:
        """Return the rows of some candidates of a plan, and the teacher's."""
        rows, failed = run_plan(ready, self._out, self._command)
        if failed:
            raise UserError(failed[0].reason)
        return [row for row in rows if row.role == "teacher" or row.candidate in candidates]

    def _ready(
        self,
        chains: Mapping[str, Sequence[Any]],
        measure: MeasureSettings,
        served: bool = False,
        recipe: Recipe | None = None,
    ) -> Ready:
        """Resolve a recipe of these candidates, and of those that they learn from.

        Args:
            served: whether the teacher is measured as it is served today, too.
            recipe: of these candidates; None: the one that is searched.
        """
        recipe = self._of(chains, measure, recipe or self._recipe)
        ready = make_ready(recipe, self._out, self.progress, self._allowed, executor=self._executor)
        entries = [
            replace(entry, layers=None)  # single layers are what a report of one recipe shows
            for entry in ready.plan.entries
            if served or entry.runtime != "torch"
        ]
        return replace(ready, plan=replace(ready.plan, entries=entries))

    def _of(
        self, chains: Mapping[str, Sequence[Any]], measure: MeasureSettings, recipe: Recipe
    ) -> Recipe:
        update = {
            "name": f"{recipe.name}/{TRIALS}",
            "candidates": with_teachers(chains, recipe),
            "measure": measure,
            "saliency": None,
            "budget": None,
        }
        return recipe.model_copy(update=update)

    def _epoch(self, *_: Any) -> None:
        if self._time_is_up():
            raise TimeUp


def _of_teacher(ready: Ready) -> PlannedRow:
    return next(entry for entry in ready.plan.entries if entry.role == "teacher")


def with_teachers(chains: Mapping[str, Sequence[Any]], recipe: Recipe) -> dict[str, list[Any]]:
    """Return chains by candidate, and those that they learn from, without controls."""
    candidates = {name: list(chain) for name, chain in chains.items()}
    waiting = list(candidates.values())
    while waiting:
        for kind, settings in map(chosen, waiting.pop()):
            for teacher in discover()[kind].teachers(settings):
                if teacher not in candidates and teacher != TEACHER:
                    candidates[teacher] = list(map(without_control, recipe.candidates[teacher]))
                    waiting.append(candidates[teacher])
    return candidates


def _quick(measure: MeasureSettings) -> MeasureSettings:
    """Return measuring that tells candidates apart, in seconds; the last picks are measured as the
    recipe asks."""
    return measure.model_copy(
        update={
            "processes": min(3, measure.processes),
            "rounds": min(10, measure.rounds),
            "throughput_batch": 2,
            "throughput_rounds": 1,
            "batches": [],
        }
    )
