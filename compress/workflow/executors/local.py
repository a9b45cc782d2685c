"""Stages one after the other, in this process; under torchrun, in all of them what trains."""

import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from compress.measure.machine import machine, usable_threads
from compress.methods.context import Context
from compress.recipe.schema import Recipe
from compress.training.processes import processes
from compress.utils.errors import StorageFailed, UserError
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.executor import trains
from compress.workflow.precision import Precisions, device_of, resolved
from compress.workflow.rows import of_other_machine
from compress.workflow.shared import Shared

LOOK_S = 1.0  # between looks whether another run has finished a stage


class Local:
    """This process: computes one stage at a time, on this machine.

    Args:
        shared: keeps the stages, too.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self.shared = shared
        self.machine = machine()
        self.threads = usable_threads()

    def device(self, wanted: str) -> torch.device:
        """As `device_of`."""
        return device_of(wanted)

    def decided(
        self,
        recipe: Recipe,
        allowed: tuple[str, ...] = (),
        note: Callable[[str], None] = lambda _: None,
    ) -> Recipe:
        """Return the recipe with `precision: auto` decided for this machine."""
        device, others = device_of(recipe.device), processes()
        if others.is_first:
            recipe = resolved(recipe, Precisions(self.machine, device, allowed, note))
        return others.told(recipe)

    def run(
        self,
        stages: Sequence[Stage],
        store: Store,
        context: Context,
        needed: Container[str] = (),
        done: Callable[[Stage], None] = lambda _: None,
    ) -> dict[str, str]:
        """Compute stages in their order; as `Executor.run`."""
        broken: dict[str, str] = {}
        for stage in stages:
            if reason := why_skipped(stage, broken):
                broken[stage.key] = reason
                context.progress.stage(stage.key, "skipped")
                continue
            try:
                run_stage(stage, store, context)
                done(stage)
            except UserError as error:
                ends_all = stage.key in needed or isinstance(error, StorageFailed)
                if ends_all or processes().size > 1:
                    raise
                broken[stage.key] = str(error)
                context.progress.stage(stage.key, "failed", str(error))
                context.progress.failed(error)
        return broken


def why_skipped(stage: Stage, broken: dict[str, str]) -> str | None:
    """Return why the first of a stage's inputs that could not be done could not; None: all were."""
    return next((broken[x.key] for x in stage.inputs.values() if x.key in broken), None)


def run_stage(stage: Stage, store: Store, context: Context) -> None:
    """Runs one stage unless it is done; its inputs are.

    Of several processes the first one runs it, and those beside it train with it: what goes wrong
    in one of them ends all.
    """
    others = processes()
    if others.is_first:
        _run_first(stage, store, context)
    elif not others.told(False) and trains(stage):
        assert stage.run is not None
        folder = store.folder(stage)
        folder.mkdir(parents=True, exist_ok=True)
        stage.run(stage, store.folders(stage), folder, context)
    others.told(None)


def _run_first(stage: Stage, store: Store, context: Context) -> None:
    with _claimed(stage, store, context):
        # Told only now: another run may have finished it while this one waited for it.
        if processes().told(store.is_done(stage)):
            tell_reused(stage, store, context)
            return
        work = stage.run
        assert work is not None
        context.progress.stage(stage.key, "running")
        seconds = store.compute(
            stage,
            lambda folder: work(stage, store.folders(stage), folder, context),
            where_of(context),
        )
        context.progress.stage(stage.key, "done", f"in {seconds:.0f} s")


def where_of(context: Context, node: str | None = None) -> dict[str, Any]:
    """Return what is kept with a stage of where it was computed.

    Args:
        node: of a cluster.
    """
    device = str(context.device)
    return {"cpu": context.machine.cpu, "device": device, "threads": context.threads, "node": node}


@contextmanager
def _claimed(stage: Stage, store: Store, context: Context) -> Iterator[None]:
    """Compute a stage of a shared store alone; waits until it is done, or nobody computes it."""
    if store.shared is None or store.is_done(stage):
        yield
        return
    name, said = store.name(stage), False
    while not store.claims.take(name):
        if not said:
            context.progress.note(f"{stage.title}: another run computes it")
            said = True
        time.sleep(LOOK_S)
        if store.is_done(stage):
            yield
            return
    try:
        yield
    finally:
        store.claims.release(name)


def tell_reused(stage: Stage, store: Store, context: Context) -> None:
    """Say that a stage is used again, and what of it another machine made."""
    store.share(stage)
    context.progress.stage(stage.key, "reused", store.name(stage))
    for sentence in of_other_machine(stage, store):
        context.progress.note(sentence)
