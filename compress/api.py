"""The same as the command line, for notebooks. Importing it imports no torch.

from compress.api import choose, front, run

results = run("recipes/distill_shufflenet.yaml", data="my_images")
choice = choose(results, speedup=5, max_accuracy_drop=0.02)
print(choice.picked.artifact.path, choice.why)
"""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice
from compress.analysis.choose import choose as choose_row
from compress.report.notebook import Drawing, Results, choice_html, results_html
from compress.results.merge import join
from compress.results.schema import Result
from compress.utils.quantities import parse_duration

if TYPE_CHECKING:
    from compress.measure.evaluate import evaluate_file as evaluate
    from compress.measure.evaluate import predict_files as predict
    from compress.search.run import Found

__all__ = [
    "Choice",
    "Result",
    "Results",
    "choose",
    "evaluate",
    "front",
    "load_results",
    "predict",
    "run",
    "search",
]
_LATER = {"evaluate": "evaluate_file", "predict": "predict_files"}  # of compress.measure.evaluate


def __getattr__(name: str) -> Any:
    """Import what needs a runtime when it is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from compress.measure import evaluate as module

    return getattr(module, _LATER[name])


# Notebooks show both as reports do; results and choices themselves know nothing of reports.
Result._repr_html_ = lambda row: results_html([row])  # type: ignore[attr-defined]
Choice._repr_html_ = choice_html  # type: ignore[attr-defined]


def run(
    recipe: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path = ".",
    assignments: Sequence[str] = (),
    allow_builders: Sequence[str] = (),
    reuse_other_machine: bool = False,
    log: str | None = None,
) -> Results:
    """Runs a recipe file; see `compress run --help`. One result per artifact, or per pipeline."""
    from rich.console import Console

    from compress.cascade.recipe import load_any
    from compress.report.run import run_and_report

    folder = None if data is None else Path(data)
    loaded = load_any(Path(recipe), folder, assignments, allow_builders)
    words = ["compress", "run", str(recipe)]
    words += [] if data is None else ["--data", str(data)]
    words += [word for a in assignments for word in ("--set", a)]
    words += [word for a in allow_builders for word in ("--allow-builders", a)]
    words += ["--reuse-other-machine"] if reuse_other_machine else []

    command = shlex.join(words)
    results, _ = run_and_report(
        loaded, Path(out), Console(), command, allow_builders, reuse_other_machine, log
    )
    return Results(results)


def search(
    recipe: str | Path,
    within: str = "2h",
    *,
    data: str | Path | None = None,
    out: str | Path = ".",
    assignments: Sequence[str] = (),
    allow_builders: Sequence[str] = (),
    confirm_with: str | Path | None = None,
    **bounds: Any,
) -> "Found":
    """Searches a recipe's candidates; see `compress search --help`. Writes no report.

    Args:
        bounds: as `choose` takes them; none: the recipe's budget.
    """
    from rich.console import Console

    from compress.report.write import budget_of
    from compress.search.run import load_for_search, search_recipe
    from compress.utils.errors import UserError
    from compress.utils.progress import Progress

    folder = None if data is None else Path(data)
    loaded = load_for_search(Path(recipe), folder, assignments, allow_builders)
    budget = Budget.typed(**bounds) if bounds else budget_of(loaded)
    if budget is None:
        raise UserError("There is no target: give speedup, max_accuracy_drop or another bound.")
    console = Console()
    return search_recipe(
        loaded,
        budget,
        parse_duration(within),
        Path(out),
        lambda on_epoch: Progress(console, None, on_epoch),
        console.print,
        f"compress.api.search({str(recipe)!r})",
        allow_builders,
        None if confirm_with is None else Path(confirm_with),
    )


def load_results(paths: Iterable[str | Path]) -> Results:
    """Reads run or report folders into one list of comparable rows.

    Raises:
        UserError: a folder without results, or rows that cannot be compared.
    """
    return Results(join(map(Path, paths)))


def choose(
    results: Sequence[Result],
    speedup: float | str | None = None,
    max_accuracy_drop: float | str | None = None,
    **more: Any,
) -> Choice:
    """The most accurate result that meets the budget; `choice.picked` is None where nothing fits.

    Args:
        speedup: 5, or "5x".
        max_accuracy_drop: 0.02, or "2%".
        more: other bounds, as the command line takes them: latency="20ms", max_bytes="6MB",
            min_accuracy, max_memory, runtime, confidence; or fields of `Budget`: latency_s, …
    """
    budget = Budget.typed(speedup=speedup, max_accuracy_drop=max_accuracy_drop, **more)
    return choose_row(results, budget)


def front(results: Sequence[Result]) -> Drawing:
    """Draws accuracy against latency, as reports do; notebooks show it, `.svg` is its text."""
    from compress.analysis.summary import summarise
    from compress.report.charts import svg
    from compress.report.front_chart import pareto_chart

    return Drawing(svg(pareto_chart(summarise(results))))
