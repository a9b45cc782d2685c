"""`compress search`: a target and a time, and a model that is proven to meet it."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.budget_options import takes_budget
from compress.cli.run import (
    Allowed,
    Assignments,
    Cluster,
    Data,
    SharedStore,
    console_of_run,
    executor_for,
    going_on,
)
from compress.utils.errors import NothingFits, UserError
from compress.utils.quantities import behind, parse_duration
from compress.utils.text import plain

if TYPE_CHECKING:
    from rich.console import Console

    from compress.analysis.budget import Budget
    from compress.recipe.schema import Recipe
    from compress.search.run import Found
    from compress.utils.progress import Progress

WRITTEN = "search.yaml"  # the recipe that is written for --teacher, in the folder of --out


@takes_budget
def search(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="A recipe, whose candidates and lists of values are what is searched; without "
            "one, --teacher, --weights and --data: a recipe is written for them."
        ),
    ] = None,
    within: Annotated[str, typer.Option(help="The time it may take in all: 30m, 2h.")] = "2h",
    teacher: Annotated[str | None, typer.Option(help="As of `compress init`.")] = None,
    weights: Annotated[str | None, typer.Option(help="As of `compress init`.")] = None,
    data: Data = None,
    image_size: Annotated[str | None, typer.Option(help="As of `compress init`.")] = None,
    budget: "Budget | None" = None,
    confirm_with: Annotated[
        Path | None,
        typer.Option(help="Labelled images that judge the last picks, too: nobody has seen them."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Gets runs/ and reports/.")] = Path(),
    assignments: Assignments = None,
    allow_builders: Allowed = None,
    cluster: Cluster = None,
    store: SharedStore = None,
) -> None:
    """Try candidates until one is proven to meet the target, or the time is up.

    What needs no training comes first, nothing is trained that cannot be fast enough, and short
    schedules tell what is worth a long one. A part of the validation images is kept out of all
    decisions and judges the last picks. Stopped at any moment, the same command goes on. When
    nothing meets the target, says what could be had instead, and exits with code 3.
    """
    within_s = behind("--within", parse_duration, within)
    allowed = allow_builders or []
    if recipe is None:
        recipe = _written(teacher, weights, data, image_size, budget, out, allowed)
        data = None
    elif named := [k for k, v in {"--teacher": teacher, "--weights": weights}.items() if v]:
        raise UserError(f"{' and '.join(named)}: the recipe says that; give one or the other.")

    from compress.report.write import budget_of
    from compress.search.run import load_for_search, search_recipe
    from compress.utils.progress import Progress
    from compress.workflow.run import RUNS

    loaded = load_for_search(recipe, data, assignments or [], allowed)
    budget = budget or budget_of(loaded)
    if budget is None:
        raise UserError("There is no target: give --speedup, --max-accuracy-drop or another bound.")
    console = console_of_run()

    def progress_of(on_epoch: Callable[..., None]) -> "Progress":
        return Progress(console, out / RUNS / loaded.name / "run.log", on_epoch)

    command = shlex.join(["compress", *sys.argv[1:]])
    with going_on(), executor_for(cluster, store, out, allowed) as executor:
        found = search_recipe(
            loaded,
            budget,
            within_s,
            out,
            progress_of,
            typer.echo,
            command,
            allowed,
            confirm_with,
            executor,
        )
    _show(loaded, budget, found, out, console)


def _written(
    teacher: str | None,
    weights: str | None,
    data: Path | None,
    image_size: str | None,
    budget: "Budget | None",
    out: Path,
    allowed: list[str],
) -> Path:
    """Write a recipe for somebody's own model and images, unless it is there; return where.

    Raises:
        UserError: options that are wrong or missing.
    """
    from compress.cli.init.dialogue import Options, answers_of
    from compress.cli.init.write import recipe_for
    from compress.utils.files import write_text

    path = out / WRITTEN
    options = Options(
        teacher=teacher,
        weights=weights,
        data=None if data is None else str(data),
        image_size=image_size,
        speedup=_as_text(budget.speedup if budget else None),
        max_accuracy_drop=_as_text(budget.max_accuracy_drop if budget else None),
        space=True,
    )
    text = recipe_for(answers_of(options, allowed), path)
    if path.exists():
        if path.read_text("utf-8") != text:
            raise UserError(
                f"{path} is there, of another model or with your changes: `compress search {path}` "
                "searches it. To begin anew give another --out, or move it away."
            )
        return path
    write_text(path, text)
    typer.echo(f"Wrote {path}, the candidates that are tried: change it, and search it by name.")
    return path


def _as_text(number: float | None) -> str | None:
    return None if number is None else str(number)


def _show(
    recipe: "Recipe", budget: "Budget", found: "Found", out: Path, console: "Console"
) -> None:
    """Print the table of the last picks and the proof; write the report and the pick's recipe.

    Raises:
        NothingFits: nothing met the target; says what could be had.
    """
    from compress.analysis.search_summary import summarise_search
    from compress.recipe.dump import recipe_text
    from compress.report.search import search_part
    from compress.report.terminal import show
    from compress.report.write import REPORTS, write_report
    from compress.utils.files import write_text

    folder = out / REPORTS / recipe.name
    summary = summarise_search(found.rows, found.search, budget)
    write_report(summary, folder, recipe.description or recipe.name, failed=(), search=found.search)
    console.print()
    show(summary, console, [])
    for sentence in search_part(found.search).said:
        typer.echo(plain(sentence))
    for line in found.said:
        typer.echo(plain(line))
    if found.pick is not None:
        file = folder / "pick.yaml"
        comment = "The pick of a search, as a plain recipe: `compress run` makes it again."
        write_text(file, recipe_text(found.pick, folder, comment))
        typer.echo(f"Recipe of the pick: {file}")
    typer.echo(f"Report: {folder / 'report.html'} (and report.md)")
    if not found.holds:
        raise NothingFits(f"Nothing is shown to meet the target. {plain(found.instead)}")
