"""The report as one HTML page that needs no network."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import ceil, floor
from typing import Any

from compress.analysis import explain as say
from compress.analysis.budget import Budget
from compress.analysis.summary import Summary
from compress.metrics.significance import same_images
from compress.report import charts
from compress.report.axes import Axis, x_axes, y_axes
from compress.report.choice_table import HEADINGS, numbers
from compress.report.content import Content
from compress.report.label_placement import asked
from compress.report.tables import MARK, task_word
from compress.report.template import as_json, render
from compress.results.schema import Result
from compress.tasks.differences import p_value
from compress.utils import units
from compress.utils.text import plain

SCRIPTS = ("choose.js", "budget.js", "draw.js", "page.js", "sort.js")  # in one module, in order


def html(
    report: Content, summary: Summary, front: charts.Spec, further: Mapping[str, charts.Spec]
) -> str:
    """Return the page of `report` and its charts, which were made of `summary`.

    Args:
        further: charts by the id of their elements, beside the front.
    """
    rows = summary.fastest_first  # as the tables have them
    picked = report.choice and report.choice.picked
    return render(
        "report.html.j2",
        SCRIPTS,
        report=report,
        picked=picked,
        headline=picked and _headline(picked),
        name=say.name,
        mark=MARK,
        axes=[(axis, side) for side, axes in _axes(rows).items() for axis in axes],
        charts=(drawn := {"front": front, **_charts(rows), **further}),
        drawn=as_json(drawn),
        data=as_json(data(summary)),
    )


def _axes(rows: Sequence[Result]) -> dict[str, list[Axis]]:
    return {"x": x_axes(rows), "y": y_axes(rows)}


def _charts(rows: Sequence[Result]) -> dict[str, charts.Spec]:
    """Return charts by the id of their elements: training-…, layers-<candidate>-<step>."""
    found = {}
    for measure in ("loss", "validation_top1"):
        if chart := charts.training_chart(rows, measure):
            found[f"training-{measure}"] = chart
    candidates = list(dict.fromkeys(row.candidate for row in rows))
    for i, candidate in enumerate(candidates):
        steps = next((row.steps for row in rows if row.candidate == candidate and row.steps), [])
        for k, step in enumerate(steps):
            if chart := charts.layers_chart(step):
                found[f"layers-{i}-{k}"] = chart
    return found


def data(summary: Summary) -> dict[str, Any]:
    """Return what the page's scripts need beside the charts; fractions and seconds, unrounded."""
    rows, budget = summary.fastest_first, summary.budget
    speedups = [1.0, *(row.speedup.ratio.value for row in rows if row.speedup)]
    drops = [100 * drop.value for row in rows if (drop := row.accuracy.top1_drop)]
    start = dict(zip(("speedup", "drop"), asked(budget) if budget else (1.0, 0.01), strict=True))
    slowest, fastest = min(speedups), max(*speedups, start["speedup"] or 1.0)
    lossiest = max(5.0, *(min(20.0, x) for x in drops), 200 * (start["drop"] or 0.0))
    return {
        "rows": [_row(row) for row in rows],
        "alike": _alike(rows),
        "front": [i for i, row in enumerate(rows) if any(row is x for x in summary.front)],
        "headings": HEADINGS,
        "start": start,  # None: any
        "narrower": budget is not None and _asks_more(budget),  # than the sliders' two bounds
        "sliders": {  # the ends of each, in times and points
            "speedup": [floor(100 * slowest) / 100 or 0.01, 1.2 * fastest],
            "drop": [0, ceil(min(100.0, lossiest))],
        },
        "word": task_word(rows),
        "missing": {
            axis.key: [plain(say.name(row)) for row in rows if not axis.value(row)]
            for axes in _axes(rows).values()
            for axis in axes
        },
    }


def _asks_more(budget: Budget) -> bool:
    beside = {constraint.field for constraint, _ in budget.limits()} - {
        "speedup",
        "max_accuracy_drop",
    }
    return bool(beside or budget.runtime or budget.confidence)


def _row(row: Result) -> dict[str, Any]:
    speedup, drop = row.speedup, row.accuracy.top1_drop
    return {
        "key": [row.candidate, row.artifact.runtime],
        "name": plain(say.name(row)),
        "teacher": row.role == "teacher",
        "deployed": row.competes,
        "dropped": row.dropped,
        "top1": row.accuracy.top1.value,
        "latency_s": row.latency_s,
        "speedup": speedup and speedup.ratio.value,
        "speedup_low": speedup and speedup.ratio.low,
        "drop": drop and drop.value,
        "drop_high": drop and drop.high,
        "headline": _headline(row),
        "why": say.why(row, None),
        "numbers": numbers(row),  # of the table of a choice
        "command": row.command,
    }


def _headline(row: Result) -> list[tuple[str, str]]:
    """Return the few numbers that are printed large, and what each is."""
    speedup, drop = row.speedup, row.accuracy.top1_drop
    return [
        *([(units.times(speedup.ratio), "faster, same runtime")] if speedup else []),
        (f"{units.percent(row.accuracy.top1.value)} %", row.accuracy.word),
        *([_change(drop.value)] if drop else []),
        (f"{units.ms(row.latency_s)} ms", "an image"),
        (f"{units.megabytes(row.artifact.size_bytes)} MB", "model file"),
    ]


def _change(drop: float) -> tuple[str, str]:
    said = units.points(abs(drop))
    return (said, "points lost") if drop >= 0 or said == "0.0" else (said, "points gained")


def _alike(rows: Sequence[Result]) -> list[list[int]]:
    """Return for each row those that are as accurate as far as the same images tell."""
    found: list[list[int]] = [[] for _ in rows]
    for (i, a), (k, b) in combinations(enumerate(rows), 2):
        if same_images(a, b) and p_value(a.accuracy, b.accuracy) > say.CHANCE:
            found[i].append(k)
            found[k].append(i)
    return found
