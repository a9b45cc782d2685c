"""`compress run`: everything a recipe asks for."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.paths import on_disk
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from compress.cascade.recipe import AnyRecipe
    from compress.recipe.schema import BaseRecipe
    from compress.results.schema import Failure, Result
    from compress.workflow.executors.executor import Executor

Recipe = Annotated[
    Path,
    typer.Argument(
        help="A recipe's file, or the name of one that `compress recipes` lists.",
        callback=on_disk,
    ),
]
Data = Annotated[
    Path | None, typer.Option(help="Your images: class folders, or a folder with a train.csv.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="key.path=value, over the recipe; repeatable.")
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(help="Further package that the recipe's builders may come from; repeatable."),
]

Cluster = Annotated[
    str | None,
    typer.Option(
        help="local (all cores of this machine), or the address of a Ray cluster, for those "
        "who may run code on it; needs the extra 'ray'."
    ),
]
SharedStore = Annotated[
    str | None,
    typer.Option(
        help="Keeps the stages, too, for all who are given the same: a folder, or an address "
        "(s3://…, with the extra 's3')."
    ),
]


def run(
    recipe: Recipe,
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Gets runs/ and reports/.")] = Path(),
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda, over the recipe.")] = None,
    assignments: Assignments = None,
    allow_builders: Allowed = None,
    reuse_other_machine: Annotated[
        bool,
        typer.Option(
            help="Where --out came from another machine: take its decisions (widths, ranks, layers "
            "in int8) and its networks in another precision. All is measured here."
        ),
    ] = False,
    log: Annotated[
        str | None,
        typer.Option(
            help="tensorboard (into runs/) or mlflow (where MLFLOW_TRACKING_URI says): epochs as "
            "they are trained, the rows' numbers, models and reports, too."
        ),
    ] = None,
    cluster: Cluster = None,
    store: SharedStore = None,
    dry_run: Annotated[bool, typer.Option(help="Show the stages and stop.")] = False,
) -> None:
    """Train, compress, export, measure, report. Run again, it re-uses all that is done.

    A candidate that fails is a row with the reason; the others go on, and the exit code is 5.
    """
    from compress.cascade.recipe import load_any

    changes = [*(assignments or []), *([f"device={device}"] if device else [])]
    allowed = allow_builders or []
    loaded = load_any(recipe, data, changes, allowed)
    if dry_run:
        with executor_for(cluster, store, out, allowed) as executor:
            for line in _stages(loaded, out, allowed, reuse_other_machine, executor):
                typer.echo(line)
        return

    from compress.report.run import run_and_report

    console = console_of_run()
    command = shlex.join(["compress", *sys.argv[1:]])
    with going_on(), executor_for(cluster, store, out, allowed) as executor:
        results, failed = run_and_report(
            loaded, out, console, command, allowed, reuse_other_machine, log, executor
        )
    from compress.training.processes import processes

    if processes().is_first:
        _show(loaded.asked, results, failed, out, console)


def console_of_run() -> "Console":
    """Return what shows how far a run is; a log file has no width of its own."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=100)


@contextmanager
def going_on() -> Iterator[None]:
    """End what is stopped by a key with a line that says how to go on, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on from the last finished epoch.", err=True)
        raise typer.Exit(130) from None


@contextmanager
def executor_for(
    cluster: str | None, store: str | None, out: Path, allowed: Sequence[str]
) -> "Iterator[Executor]":
    """Give what computes the stages: this process, or a cluster.

    Raises:
        UserError: the cluster or the store cannot be used, or torchrun started this.
    """
    if cluster is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "--cluster cannot be used under torchrun: each of its processes would start the whole "
            "run on the cluster. Leave out torchrun (candidates train side by side), or --cluster "
            "(several GPUs of this machine train one network)."
        )
    from compress.workflow.executors.local import Local
    from compress.workflow.shared import Shared

    shared = None if store is None else Shared(store)
    if shared is not None:
        shared.check()
    if cluster is None:
        yield Local(shared)
        return
    from compress.workflow.executors.ray import on_ray

    with on_ray(cluster, shared, out, allowed) as found:
        yield found


def _stages(
    loaded: "AnyRecipe",
    out: Path,
    allowed: Sequence[str],
    reuse_other_machine: bool,
    executor: "Executor",
) -> Iterator[str]:
    """Yield a line for each stage of a run that says whether it is done already."""
    from compress.workflow.cache import Store
    from compress.workflow.plan import make_plan
    from compress.workflow.run import RUNS, STAGES

    store = Store(out / RUNS / STAGES, reuse_other_machine, executor.shared)
    for asked in loaded.of_networks:
        each = executor.decided(asked, tuple(allowed))
        threads = each.measure.threads or executor.threads
        plan = make_plan(each, executor.machine, threads, allowed)
        for fault in plan.faults:
            yield f"fails  {fault}"
        for stage in plan.without(plan.impossible_rows).stages:
            mark = "done" if store.is_done(stage) else "to do"
            yield f"{mark:>5}  {stage.title}  [{store.name(stage)}]"
    if loaded.stages:
        yield "Then the pipelines: those of the teachers, and the predicted front."


def _show(
    asked: "BaseRecipe",
    results: "Sequence[Result]",
    failed: "Sequence[Failure]",
    out: Path,
    console: "Console",
) -> None:
    """Print the table, what was chosen, and where the report is.

    Raises:
        SomeFailed: candidates failed; names them.
    """
    from compress.analysis.explain import listed
    from compress.analysis.summary import summarise
    from compress.report.terminal import show
    from compress.report.write import REPORTS, budget_of
    from compress.utils.errors import SomeFailed
    from compress.utils.text import plain

    summary = summarise(results, budget_of(asked))
    console.print()
    show(summary, console, failed)
    if choice := summary.choice:
        if choice.picked:
            typer.echo(f"Chosen: {out / choice.picked.artifact.path}\n{plain(choice.why)}")
        else:
            typer.echo(plain(" ".join(["Nothing meets the budget.", *choice.hints()])))
    typer.echo(f"Report: {out / REPORTS / asked.name / 'report.html'} (and report.md)")
    if failed:
        names = listed([plain(failure.candidate) for failure in failed])
        raise SomeFailed(f"Failed: {names}. The table and the report say why.")
