"""`compress run`: everything a recipe asks for."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[Path, typer.Argument(help="A recipe, e.g. recipes/distill_shufflenet.yaml.")]
Data = Annotated[
    Path | None, typer.Option(help="Your pictures: class folders, or a folder with a train.csv.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="key.path=value, over the recipe; repeatable.")
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(help="Further package that the recipe's builders may come from; repeatable."),
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
    dry_run: Annotated[bool, typer.Option(help="Show the stages and stop.")] = False,
) -> None:
    """Train, compress, export, measure, report. Run again, it re-uses all that is done.

    A candidate that fails is a row with the reason; the others go on, and the exit code is 5.
    """
    from compress.cascade.recipe import load_any

    changes = [*(assignments or []), *([f"device={device}"] if device else [])]
    allowed = allow_builders or []
    command = shlex.join(["compress", *sys.argv[1:]])
    loaded = load_any(recipe, data, changes, allowed)

    from rich.console import Console

    from compress.analysis.explain import listed
    from compress.analysis.summary import summarise
    from compress.cascade.run import run_any
    from compress.report.terminal import plain, show
    from compress.report.write import REPORTS, budget_of, reports_in
    from compress.utils.errors import SomeFailed
    from compress.utils.progress import Progress
    from compress.workflow.plan import make_plan
    from compress.workflow.run import RUNS, with_precisions

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # a log file has no width of its own
    if dry_run:
        from compress.measure.machine import machine, usable_threads
        from compress.workflow.cache import Store

        store = Store(out / RUNS / "stages", reuse_other_machine)
        for asked in loaded.of_networks:
            each = with_precisions(asked, machine(), out, tuple(allowed))
            plan = make_plan(each, machine(), each.measure.threads or usable_threads(), allowed)
            for fault in plan.faults:
                typer.echo(f"fails  {fault}")
            for stage in plan.without(plan.impossible_rows).stages:
                mark = "done" if store.is_done(stage) else "to do"
                typer.echo(f"{mark:>5}  {stage.title}  [{store.name(stage)}]")
        if loaded.stages:
            typer.echo("Then the pipelines: those of the teachers, and the predicted front.")
        return

    def progress_of(name: str) -> Progress:
        return Progress(console, out / RUNS / name / "run.log")

    try:
        results, failed = run_any(
            loaded, out, progress_of, command, allowed, reuse_other_machine, reports_in(out)
        )
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on from the last finished epoch.", err=True)
        raise typer.Exit(130) from None

    summary = summarise(results, budget_of(loaded.asked))
    console.print()
    show(summary, console, failed)
    if choice := summary.choice:
        if choice.picked:
            typer.echo(f"Chosen: {out / choice.picked.artifact.path}\n{plain(choice.why)}")
        else:
            typer.echo(plain(" ".join(["Nothing meets the budget.", *choice.hints()])))
    typer.echo(f"Report: {out / REPORTS / loaded.asked.name / 'report.html'} (and report.md)")
    if failed:
        names = listed([plain(failure.candidate) for failure in failed])
        raise SomeFailed(f"Failed: {names}. The table and the report say why.")
