"""Writes a report folder: Markdown, HTML, CSV, pictures and the rows themselves."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from compress.budget import Budget
from compress.files import atomic, write_text
from compress.pareto import front_rows
from compress.report import charts
from compress.report.content import content
from compress.report.front_chart import pareto_chart
from compress.report.markdown import markdown
from compress.report.page import html
from compress.report.table import csv_text
from compress.results import Failure, Result
from compress.results_file import RESULTS_FILE, as_lines


def write_report(
    results: Sequence[Result],
    folder: Path,
    budget: Budget | None,
    title: str,
    damaged: Iterable[str] = (),
    failed: Sequence[Failure] = (),
) -> None:
    """Writes report.md, report.html, pareto.csv, pareto.svg, pareto.png and results.jsonl.

    Each file appears whole or not at all. `damaged` are lines that could not be read; they are
    named in the report.
    """
    report = content(results, budget, title, damaged, failed)
    front = pareto_chart(results, budget)
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.html", html(report, results, budget))
    write_text(folder / "pareto.csv", csv_text(results, front_rows(results)))
    write_text(folder / "pareto.svg", charts.svg(front))
    with atomic(folder / "pareto.png") as file:
        file.write_bytes(charts.png(front))
    write_text(folder / RESULTS_FILE, as_lines(results, failed))
