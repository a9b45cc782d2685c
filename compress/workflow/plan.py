"""The recipe resolved into stages with content keys; nothing here computes anything."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.methods import discover
from compress.methods.base import TEACHER
from compress.models.builders import build
from compress.models.channels import fault
from compress.models.onnx_teacher import fingerprint as onnx_fingerprint
from compress.models.onnx_teacher import read_onnx
from compress.models.weight_sources import fingerprint, is_file
from compress.recipe.load import runtimes_of, students_of
from compress.recipe.schema import Recipe, chosen
from compress.results.schema import Role, Runtime
from compress.runtimes import runtime_named, tells_kernels
from compress.utils.errors import UserError
from compress.workflow.cache import Stage
from compress.workflow.planned_row import PlannedRow
from compress.workflow.stages import (
    accuracy,
    data,
    doubts,
    export,
    latency,
    layers,
    onnx_teacher,
    saliency,
    step,
    teacher,
)

if TYPE_CHECKING:
    from torch import nn

    from compress.results.schema import Machine


@dataclass(frozen=True)
class Plan:
    """All stages of a recipe."""

    recipe: Recipe
    data: Stage
    entries: list[PlannedRow]
    key: str  # of all that the recipe asks for
    timing: Callable[[list[PlannedRow]], Stage]
    impossible: dict[str, str] = field(default_factory=dict)  # candidates, and why

    @cached_property
    def latency(self) -> Stage:
        return self.timing(self.entries)

    @cached_property
    def stages(self) -> list[Stage]:
        """Each after those it builds on, the latency last."""
        ends = [stage for entry in self.entries for stage in entry.ends]
        return list(in_order([*ends, self.latency]))

    @property
    def faults(self) -> list[str]:
        """Why candidates are impossible, with key paths: it is the first step that tells."""
        return _faults(self.recipe, self.impossible)

    @property
    def impossible_rows(self) -> dict[str, str]:
        """The impossible candidates and their controls, and why."""
        return {
            entry.candidate: self.impossible[candidate]
            for entry in self.entries
            if (candidate := entry.control_of or entry.candidate) in self.impossible
        }

    def without(self, candidates: Container[str]) -> "Plan":
        """The same plan as if these had not been asked for."""
        entries = [entry for entry in self.entries if entry.candidate not in candidates]
        return replace(self, entries=entries)


@dataclass(frozen=True)
class _Model:
    """A network that rows are of: the teacher, a candidate or a control."""

    name: str
    role: Role
    runtimes: Sequence[Runtime]
    stage: Stage
    control_of: str | None = None
    control: str | None = None  # what kind of control


def make_plan(
    recipe: Recipe, machine: "Machine", threads: int, allowed: Sequence[str] = ()
) -> Plan:
    """Resolves a recipe on this machine; reads the data's and the weights' fingerprints.

    Raises:
        UserError: data, weights or a runtime that are not there; no candidate is possible.
    """
    for served in map(runtime_named, recipe.measure.runtimes):
        if served.package not in machine.versions:
            raise UserError(served.missing)
    impossible = _impossible(recipe, allowed)
    if len(impossible) == len(recipe.candidates):
        raise UserError("\n".join(_faults(recipe, impossible)))
    basis = _basis(recipe, machine, threads, allowed)
    rows = [
        row
        for model in (_teacher(recipe, basis), *_candidates(recipe, basis))
        for row in _rows(model, recipe, basis, machine, threads)
    ]
    timing = partial(latency.plan, recipe.measure, machine, threads)
    return Plan(recipe, basis.data, rows, timing(rows).key, timing, impossible)


def plan_teacher(recipe: Recipe, allowed: Sequence[str] = ()) -> Stage:
    """Return the teacher's stage, which builds on the data's alone.

    Raises:
        UserError: data or weights that are not there.
    """
    data_stage = data.plan(recipe.data, recipe.seed, allowed)
    given, fit = recipe.teacher, recipe.data.image_fit
    if given.onnx is not None:
        return onnx_teacher.plan(given, fit, data_stage)
    return teacher.plan(given, fit, recipe.seed, data_stage, allowed)


def _basis(recipe: Recipe, machine: "Machine", threads: int, allowed: Sequence[str]) -> step.Basis:
    """Return the data, the teacher and what else all steps build on."""
    teacher_stage = plan_teacher(recipe, allowed)
    data_stage = teacher_stage.inputs["data"]
    task, asked = recipe.data.asked
    # How near is right; a class is right or not.
    near = recipe.measure.keypoint_tolerance if task.tolerances(asked) else None
    return step.Basis(
        data=data_stage,
        teacher=teacher_stage,
        teacher_artifact=export.plan("teacher", "onnxruntime", data_stage, teacher_stage),
        tolerance=near,
        measured_on={
            "machine": machine.comparable(),
            "cpu_flags": machine.cpu_flags,
            "threads": threads,
        },
        seed=recipe.seed,
        allowed=allowed,
    )


def _teacher(recipe: Recipe, basis: step.Basis) -> _Model:
    """Return the teacher, measured as it is served today, too: a file is served as it is."""
    served: list[Runtime] = [*recipe.measure.runtimes]
    served += ["torch"] if recipe.teacher.onnx is None else []
    return _Model(TEACHER, "teacher", served, basis.teacher)


def _candidates(recipe: Recipe, basis: step.Basis) -> Iterator[_Model]:
    """Yield each candidate and, behind it, its controls."""

    @cache
    def ends(name: str) -> Stage:
        """The last stage of a candidate that another learns from, or of the recipe's teacher."""
        if name == TEACHER:
            return basis.teacher
        return chain_of(name, [chosen(item) for item in recipe.candidates[name]])

    def chain_of(shown: str, steps: list[tuple[str, Any]]) -> Stage:
        stage = basis.teacher
        for kind, settings in steps:
            teachers = [ends(name) for name in discover()[kind].teachers(settings)]
            stage = step.plan(f"{shown}: {kind}", kind, settings, basis, stage, teachers)
        return stage

    for name, chain in recipe.candidates.items():
        runtimes = runtimes_of(recipe, chain)
        given = [chosen(item) for item in chain]
        for control, steps in _with_controls(given, recipe.first_own_step(name)):
            if control is None:
                yield _Model(name, "candidate", runtimes, chain_of(name, steps))
            else:
                shown = f"{name} ({control})"
                yield _Model(shown, "control", runtimes, chain_of(shown, steps), name, control)


def _rows(
    model: _Model, recipe: Recipe, basis: step.Basis, machine: "Machine", threads: int
) -> Iterator[PlannedRow]:
    """Yield a row for each runtime that the model's file is measured in."""
    name, settings = model.name, recipe.saliency
    for runtime in model.runtimes:
        artifact = export.plan(name, runtime, basis.data, model.stage)
        looked = None
        if settings and runtime == model.runtimes[0]:
            looked = saliency.plan(
                name, settings, runtime, machine, recipe.seed, basis.data, model.stage, artifact
            )
        judged = accuracy.plan(name, runtime, machine, basis.data, artifact, basis.tolerance)
        doubted = None
        if model.role == "teacher" and runtime == model.runtimes[0]:
            given = recipe.teacher.weights is not None or recipe.teacher.onnx is not None
            doubted = doubts.plan(runtime, given, basis.data, artifact, judged)
        # A control is built like what it is the control of.
        told = model.role != "control" and tells_kernels(runtime)
        yield PlannedRow(
            candidate=name,
            role=model.role,
            control_of=model.control_of,
            control=model.control,
            runtime=runtime,
            model=model.stage,
            artifact=artifact,
            accuracy=judged,
            layers=layers.plan(name, runtime, machine, threads, artifact) if told else None,
            saliency=looked,
            doubts=doubted,
        )


def _impossible(recipe: Recipe, allowed: Sequence[str]) -> dict[str, str]:
    """Asks the first steps that can tell from the networks alone, before hours of training do."""
    task, asked = recipe.data.asked
    outputs = task.likely_outputs(asked)
    spec = recipe.teacher.input_spec(recipe.data.image_fit)

    def make(builder: str, settings: dict[str, Any]) -> "nn.Module":
        return build(builder, settings, outputs, allowed)

    @cache
    def before() -> "nn.Module | None":
        try:
            given = recipe.teacher
            model = build(given.builder or "", given.settings, outputs, allowed, spec.shape)
        except UserError:  # a file, or a builder that wants the data's own classes
            return None
        if reason := fault(model, spec.shape):
            raise UserError(f"the teacher {given.builder} {reason}")
        return model

    told: dict[str, str] = {}  # candidates of a grid often differ in nothing that is looked at
    found = {}
    for name, chain in recipe.candidates.items():
        kind, settings = chosen(chain[0])
        method = discover()[kind]
        looked_at = None if method.checked is None else set(method.checked)
        question = f"{kind} {settings.model_dump_json(include=looked_at)}"
        if question not in told:
            try:
                method.check(settings, before, make, spec)
                told[question] = ""
            except UserError as error:
                told[question] = str(error)
        if reason := told.get(question):
            found[name] = reason
    return found


def _faults(recipe: Recipe, impossible: dict[str, str]) -> list[str]:
    """Those of first steps; where one is another candidate's it is told there."""
    return [
        f"candidates.{name}.0.{reason}"
        for name, reason in impossible.items()
        if not recipe.first_own_step(name)
    ]


def _with_controls(
    chain: list[tuple[str, Any]], own: int
) -> Iterator[tuple[str | None, list[tuple[str, Any]]]]:
    """Yield the chain itself, and by its kind each control of a step: with that step changed.

    Args:
        own: position of the first step whose controls are not rows of another candidate.
    """
    yield None, chain
    for i, (kind, settings) in enumerate(chain[own:], own):
        for control, changed in discover()[kind].controls(settings).items():
            yield control, [*chain[:i], (kind, changed), *chain[i + 1 :]]


def in_order(ends: list[Stage]) -> Iterator[Stage]:
    """Yield each stage once, after its inputs, in the order of the candidates."""
    seen: set[str] = set()

    def visit(stage: Stage) -> Iterator[Stage]:
        for input_ in stage.inputs.values():
            yield from visit(input_)
        if stage.key not in seen:
            seen.add(stage.key)
            yield stage

    for end in ends:
        yield from visit(end)


def files_of(recipe: Recipe) -> dict[str, Path]:
    """Return the files of weights that a recipe names, by what stages know them by."""
    if recipe.teacher.onnx is not None:
        path = Path(recipe.teacher.onnx)
        found = {onnx_fingerprint(read_onnx(path)): path}
    else:
        found = {}
    named = [recipe.teacher.weights, *(student.weights for _, student in students_of(recipe))]
    paths = {Path(name) for name in named if name is not None and is_file(name)}
    return found | {fingerprint(path): path for path in paths}
