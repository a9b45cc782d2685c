"""Writes a report folder: Markdown, HTML, CSV, images and the rows themselves."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from compress.analysis.budget import Budget
from compress.analysis.summary import Summary, summarise
from compress.recipe.schema import BaseRecipe
from compress.report import charts
from compress.report.content import content
from compress.report.front_chart import pareto_chart
from compress.report.html import html
from compress.report.markdown import markdown
from compress.report.search import growth, timeline
from compress.report.tables import csv_text
from compress.results.file import RESULTS_FILE, as_lines
from compress.results.schema import Failure, Result
from compress.results.search import FILE as SEARCH_FILE
from compress.results.search import Search
from compress.utils.files import atomic, mark_own, write_text
from compress.workflow.run import Report

REPORTS = "reports"


def write_report(
    summary: Summary,
    folder: Path,
    title: str,
    damaged: Iterable[str] = (),
    failed: Sequence[Failure] = (),
    search: Search | None = None,
) -> None:
    """Write report.md, report.html, pareto.csv, pareto.svg, pareto.png and results.jsonl.

    Of a search search.json, search.svg and search_front.svg, too.

    Each file appears whole or not at all. `damaged` are lines that could not be read; they are
    named in the report.
    """
    if not folder.is_dir() or not any(folder.iterdir()) or (folder / "report.md").is_file():
        mark_own(folder)  # else it is somebody's, who may have images in it
    report = content(summary, title, damaged, failed, search)
    front = pareto_chart(summary)
    further: dict[str, charts.Spec] = {}
    if search is not None:
        write_text(folder / SEARCH_FILE, search.model_dump_json(indent=1))
        for name, picture, drawn in (
            ("timeline", "search.svg", timeline(search)),
            ("growth", "search_front.svg", growth(search)),
        ):
            if drawn is not None:
                further[name] = drawn
                write_text(folder / picture, charts.svg(drawn))
    else:
        for name in (SEARCH_FILE, "search.svg", "search_front.svg"):
            (folder / name).unlink(missing_ok=True)  # of a search that found other rows
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.html", html(report, summary, front, further))
    write_text(folder / "pareto.csv", csv_text(summary))
    write_text(folder / "pareto.svg", charts.svg(front))
    with atomic(folder / "pareto.png") as file:
        file.write_bytes(charts.png(front))
    write_text(folder / RESULTS_FILE, as_lines(summary.rows, failed))


def budget_of(recipe: BaseRecipe) -> Budget | None:
    """Return what a recipe asks for."""
    return None if recipe.budget is None else Budget.typed(**recipe.budget.model_dump())


def reports_in(out: Path) -> Report:
    """Return what writes the report of a finished recipe to `reports/<recipe>/`."""

    def write(recipe: BaseRecipe, results: Sequence[Result], failed: Sequence[Failure]) -> None:
        title = recipe.description or recipe.name
        folder = out / REPORTS / recipe.name
        write_report(summarise(results, budget_of(recipe)), folder, title, failed=failed)

    return write
