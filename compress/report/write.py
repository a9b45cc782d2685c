"""Writes a report folder: Markdown, HTML, CSV, pictures and the rows themselves."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from compress.budget import Budget
from compress.files import atomic, write_text
from compress.pareto import front_rows
from compress.report import charts, units
from compress.report.content import Content, content
from compress.report.markdown import markdown
from compress.report.say import name
from compress.report.table import MARK, csv_text
from compress.results import RESULTS_FILE, Result


def write_report(
    results: Sequence[Result],
    folder: Path,
    budget: Budget | None,
    title: str,
    damaged: Iterable[str] = (),
) -> None:
    """Writes report.md, report.html, pareto.csv, pareto.svg, pareto.png and results.jsonl.

    Each file appears whole or not at all. `damaged` are lines that could not be read; they are
    named in the report.
    """
    report = content(results, budget, title, damaged)
    front = charts.pareto_chart(results, budget)
    curves = [charts.training_chart(results, x) for x in ("loss", "validation_top1")]
    write_text(folder / "report.md", markdown(report))
    write_text(folder / "report.html", html(report, [front, *filter(None, curves)]))
    write_text(folder / "pareto.csv", csv_text(results, front_rows(results)))
    write_text(folder / "pareto.svg", charts.svg(front))
    with atomic(folder / "pareto.png") as file:
        file.write_bytes(charts.png(front))
    write_text(folder / RESULTS_FILE, "".join(f"{x.model_dump_json()}\n" for x in results))


def html(report: Content, specs: list[dict[str, Any]]) -> str:
    """One page that needs no network; the first chart is the front, the others training curves."""
    environment = Environment(
        loader=PackageLoader("compress", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        picked=report.choice and report.choice.picked,
        name=name,
        units=units,
        mark=MARK,
        specs=[_json(spec) for spec in specs],
        javascript=Markup(charts.javascript()),  # ours: nothing of a result is in it
    )


def _json(spec: dict[str, Any]) -> Markup:
    """JSON inside a script element: no name in it can close the element."""
    return Markup(json.dumps(spec).replace("<", "\\u003c"))
