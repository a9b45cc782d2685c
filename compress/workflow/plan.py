"""The recipe resolved into stages with content keys; nothing here computes anything."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.methods import discover
from compress.models.builders import build
from compress.recipe.load import runtimes_of
from compress.recipe.schema import Recipe, chosen
from compress.results.schema import Role, Runtime
from compress.runtimes import OPENVINO_MISSING, package_of
from compress.utils.errors import UserError
from compress.workflow.cache import Stage
from compress.workflow.planned_row import PlannedRow

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


def make_plan(
    recipe: Recipe, machine: "Machine", threads: int, allowed: Sequence[str] = ()
) -> Plan:
    """Resolves a recipe on this machine; reads the data's and the weights' fingerprints.

    Raises:
        UserError: data, weights or a runtime that are not there; no candidate is possible.
    """
    from compress.workflow.stages import (
        accuracy,
        data,
        export,
        latency,
        layers,
        onnx_teacher,
        saliency,
        step,
        teacher,
    )

    packages = {package_of(runtime) for runtime in recipe.measure.runtimes}
    if "openvino" in packages and "openvino" not in machine.versions:
        raise UserError(OPENVINO_MISSING)

    impossible = _impossible(recipe, allowed)
    if len(impossible) == len(recipe.candidates):
        raise UserError("\n".join(_faults(recipe, impossible)))
    seed = recipe.seed
    data_stage = data.plan(recipe.data, seed, allowed)
    fit = recipe.data.fit
    if recipe.teacher.onnx is not None:
        teacher_stage = onnx_teacher.plan(recipe.teacher, fit, data_stage)
    else:
        teacher_stage = teacher.plan(recipe.teacher, fit, seed, data_stage, allowed)

    # How near is right; a class is right or not.
    tolerance = None if recipe.data.point_columns is None else recipe.measure.keypoint_tolerance
    basis = step.Basis(
        data=data_stage,
        teacher=teacher_stage,
        teacher_artifact=export.plan("teacher", "onnxruntime", data_stage, teacher_stage),
        tolerance=tolerance,
        measured_on={
            "machine": machine.comparable(),
            "cpu_flags": machine.cpu_flags,
            "threads": threads,
        },
        seed=seed,
        allowed=allowed,
    )

    # The teacher is measured as it is served today, too: a file is served as it is.
    served: list[Runtime] = [*recipe.measure.runtimes]
    served += ["torch"] if recipe.teacher.onnx is None else []
    models: list[tuple[str, Role, str | None, str | None, Sequence[Runtime], Stage]] = [
        ("teacher", "teacher", None, None, served, teacher_stage)
    ]
    for name, chain in recipe.candidates.items():
        runtimes = runtimes_of(recipe, chain)
        given = [chosen(item) for item in chain]
        for control, steps_ in _with_controls(given, recipe.first_own_step(name)):
            shown = name if control is None else f"{name} ({control})"
            stage = teacher_stage
            for kind, settings in steps_:
                stage = step.plan(f"{shown}: {kind}", kind, settings, basis, stage)
            role: Role = "candidate" if control is None else "control"
            of = None if control is None else name
            models.append((shown, role, of, control, runtimes, stage))

    entries = []
    for name, role, control_of, kind_of_control, run_in, model in models:
        for runtime in run_in:
            artifact = export.plan(name, runtime, data_stage, model)
            judged = accuracy.plan(name, runtime, machine, data_stage, artifact, tolerance)
            looked = None
            if recipe.saliency and runtime == run_in[0]:
                looked = saliency.plan(
                    name, recipe.saliency, runtime, machine, seed, data_stage, model, artifact
                )
            # A control is built like what it is the control of; torch tells nothing of layers.
            told = role != "control" and runtime != "torch"
            inside = layers.plan(name, runtime, machine, threads, artifact) if told else None
            entries.append(
                PlannedRow(
                    candidate=name,
                    role=role,
                    control_of=control_of,
                    control=kind_of_control,
                    runtime=runtime,
                    model=model,
                    artifact=artifact,
                    accuracy=judged,
                    layers=inside,
                    saliency=looked,
                )
            )
    timing = partial(latency.plan, recipe.measure, machine, threads)
    return Plan(recipe, data_stage, entries, timing(entries).key, timing, impossible)


def _impossible(recipe: Recipe, allowed: Sequence[str]) -> dict[str, str]:
    """Asks the first steps that can tell from the networks alone, before hours of training do."""
    columns = recipe.data.point_columns
    outputs = 2 * len(columns.names) if columns else 2  # how many classes there are is not known

    def make(builder: str, settings: dict[str, Any]) -> "nn.Module":
        return build(builder, settings, outputs, allowed)

    @cache
    def before() -> "nn.Module | None":
        try:
            return make(recipe.teacher.builder or "", recipe.teacher.settings)
        except UserError:  # a file, or a builder that wants the data's own classes
            return None

    told: dict[str, str] = {}  # candidates of a grid often differ in nothing that is looked at
    found = {}
    for name, chain in recipe.candidates.items():
        kind, settings = chosen(chain[0])
        method = discover()[kind]
        looked_at = None if method.checked is None else set(method.checked)
        question = f"{kind} {settings.model_dump_json(include=looked_at)}"
        if question not in told:
            try:
                method.check(settings, before, make, recipe.teacher.image_size)
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


def weights_path(recipe: Recipe) -> Path | None:
    """Where the teacher's weights (or its ONNX file) lie, unless they are to be downloaded."""
    if recipe.teacher.onnx is not None:
        return Path(recipe.teacher.onnx)
    weights = recipe.teacher.weights
    return None if weights is None or weights.startswith("torchvision:") else Path(weights)
