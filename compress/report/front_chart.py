"""The front as one Vega-Lite chart that is steered by its parameters.

The page sets `x_key` and `y_key` (see compress/report/axes.py), the budget's bounds `speedup` and
`drop`, `fitting` (the numbers of the rows that meet it) and `picked`; an image has what the
parameters begin with. Better is always up and to the left.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from compress.analysis.controls import CONTROL, DROPPED, role
from compress.analysis.summary import Summary
from compress.report.axes import Axis, front, x_axes, y_axes
from compress.report.charts import BLUE, GREY, ORANGE, Spec, spec
from compress.report.label_placement import (
    LABELS,
    Domain,
    asked,
    references,
    sides,
    x_domain,
    y_domain,
)
from compress.report.tables import Column, columns, more_columns
from compress.results.schema import FROM_SCRATCH, NO_TEACHER, Result
from compress.runtimes import discover
from compress.utils.text import plain
from compress.utils.units import TIMES

ROLES = {
    "teacher": "#D55E00",
    "candidate": BLUE,
    NO_TEACHER: "#CC79A7",
    FROM_SCRATCH: ORANGE,
    CONTROL: "#56B4E9",
    DROPPED: GREY,
}
GREEN = "#009E73"
FITS = "fits the budget"
TICK = (  # 1, 2 and 5 of each decade have room for their number
    "indexof('125', slice(format(datum.value, '.0e'), 0, 1)) < 0 ? '' : "
    "format(datum.value, datum.value < 1000 ? '~g' : '~s')"
)
ENDS = ("", "_low", "_high")  # of an axis's fields in a point
PAIR = "x_key + ' ' + y_key"
X, Y = "axes[x_key]", "axes[y_key]"


def pareto_chart(summary: Summary) -> Spec:
    """Draw rows with intervals, the front, the budget; latency against top-1 to begin with.

    The tooltip of a point holds both tables' cells of its row. Torch rows are shown, as reference,
    but are not in the front. A row without a number of the chosen pair is not shown.
    """
    rows, budget = summary.fastest_first, summary.budget
    across, up = x_axes(rows), y_axes(rows)
    domains = {axis.key: x_domain(axis, rows, budget) for axis in across}
    domains |= {axis.key: y_domain(axis, rows, budget) for axis in up}
    told = [*columns(rows), *more_columns(summary)[2:]]  # both begin with name and runtime
    points = [_point(i, row, [*across, *up], told) for i, row in enumerate(rows)]
    for x in across:
        for y in up:
            _place(points, rows, x, y, domains)
    speedup, drop = asked(budget)
    picked = summary.choice and summary.choice.picked
    parameters = {
        "axes": {
            axis.key: {"title": axis.title, "best": best, "worst": worst}
            for axis in (*across, *up)
            for best, worst in [domains[axis.key]]
        },
        "x_key": across[0].key,
        "y_key": up[0].key,
        "speedup": speedup,
        "drop": drop,
        "fitting": [i for i, row in enumerate(rows) if any(row is x for x in summary.fitting)],
        "picked": next((i for i, row in enumerate(rows) if row is picked), None),
    }
    chart = (
        alt.layer(*_layers(rows, told), data=alt.InlineData(values=points))
        .transform_calculate(
            **{f"{a}{end}": f"datum[{a}_key + '{end}']" for a in "xy" for end in ENDS},
            **{FITS.replace(" ", "_"): "indexof(fitting, datum.row) < 0 ? 'no' : 'yes'"},
            place=f"datum.places[{PAIR}]",
            side=f"datum.sides[{PAIR}]",
        )
        .transform_filter("isValid(datum.x) && isValid(datum.y)")
        .add_params(*(alt.param(name, value=value) for name, value in parameters.items()))
    )
    return _titled(spec(chart, height=430))


def _layers(rows: Sequence[Result], told: Sequence[Column]) -> list[alt.Chart]:
    x = (
        alt.X("x:Q")
        .scale(
            type="log",
            nice=False,
            domain=alt.ExprRef(f"[{X}.best, {X}.worst]"),
        )
        .axis(labelExpr=TICK)
    )
    y = alt.Y("y:Q").scale(zero=False, nice=False, domain=alt.ExprRef(f"[{Y}.worst, {Y}.best]"))
    base = alt.Chart().encode(x=x, y=y)
    return [
        *_budget_layers(),
        base.mark_rule(color=GREY, opacity=0.45).encode(y="y_low:Q", y2="y_high:Q"),
        base.mark_rule(color=GREY, opacity=0.45).encode(x="x_low:Q", x2="x_high:Q"),
        base.transform_filter("isValid(datum.place)")
        .mark_line(interpolate="step-after", color=GREY, strokeDash=[5, 3])
        .encode(order="place:Q"),
        base.transform_filter("datum.row === picked").mark_point(
            size=420, color=GREEN, strokeWidth=3, opacity=1
        ),
        _marks(base, rows, told),
        _labels(base, "left", align="right", dx=-8, dy=-9),
        _labels(base, "right", align="left", dx=8, dy=-9),
        _labels(base, "below", align="center", dy=15),
    ]


def _budget_layers() -> list[alt.Chart]:
    """Draw the budget's corner, one for each runtime that the teacher was measured in.

    The speedup bounds the latency and nothing else, the drop bounds top-1 and drop; where only one
    of them is shown, the region is a half of the chart, where none, there is no region.
    """
    base = (
        alt.Chart()
        .transform_filter("datum.reference")
        .transform_calculate(
            fast="speedup !== null && x_key === 'latency' ? datum.latency / speedup : null",
            right="drop === null ? null : y_key === 'top1' ? datum.top1 - 100 * drop : "
            "y_key === 'drop' ? 100 * drop : null",
        )
        .transform_filter("isValid(datum.fast) || isValid(datum.right)")
        .transform_calculate(
            x_limit=f"isValid(datum.fast) ? datum.fast : {X}.worst",
            y_limit=f"isValid(datum.right) ? datum.right : {Y}.worst",
            x_best=f"{X}.best",
            y_best=f"{Y}.best",
            faster=f"isValid(datum.fast) ? format(speedup, '~r') + '{TIMES}' : ''",
            lost="isValid(datum.right) ? format(100 * drop, '~r') + "
            "(drop === 0.01 ? ' point' : ' points') : ''",
            said="'budget: ' + datum.faster + (datum.faster && datum.lost && ', ') + datum.lost",
        )
    )
    edge = base.encode(x=alt.X("x_limit:Q"), y=alt.Y("y_limit:Q"))
    return [
        edge.mark_rect(color=GREEN, opacity=0.13, clip=True).encode(x2="x_best", y2="y_best"),
        edge.transform_filter("isValid(datum.fast)")
        .mark_rule(color=GREEN, clip=True)
        .encode(y2="y_best"),
        edge.transform_filter("isValid(datum.right)")
        .mark_rule(color=GREEN, clip=True)
        .encode(x2="x_best"),
        base.transform_window(number="row_number()")
        .transform_filter("datum.number === 1")
        .mark_text(align="left", baseline="top", dx=7, dy=7, fontWeight="bold")
        .encode(x=alt.X("x_best:Q"), y=alt.Y("y_best:Q"), text="said:N"),
    ]


def _marks(base: alt.Chart, rows: Sequence[Result], told: Sequence[Column]) -> alt.Chart:
    headings = [*(column.heading for column in told), FITS]
    roles = [name for name in ROLES if name in {_role(row) for row in rows}]
    used = {row.artifact.runtime for row in rows}
    marks_of = {name: x.mark for name, x in discover().items()} | {"torch": "triangle-up"}
    marks_of |= {name: "cross" for name in sorted(used - set(marks_of))}  # of another machine
    shapes = [name for name in marks_of if name in used]
    marks: alt.Chart = base.mark_point(filled=True, size=110, opacity=1).encode(
        color=alt.Color("role:N", title=None).scale(domain=roles, range=[ROLES[x] for x in roles]),
        shape=alt.Shape("runtime:N", title=None)
        .scale(domain=shapes, range=[marks_of[x] for x in shapes])
        .legend(symbolFillColor=GREY),
        tooltip=[alt.Tooltip(f"{_field(heading)}:N", title=heading) for heading in headings],
    )
    return marks


def _labels(base: alt.Chart, side: str, **place: Any) -> alt.Chart:
    chosen = base.transform_filter(f"datum.side === '{side}'")
    limit = alt.ExprRef(f"{LABELS} * width")
    labels: alt.Chart = chosen.mark_text(limit=limit, **place).encode(text="label:N")
    return labels


def _point(i: int, row: Result, axes: Sequence[Axis], told: Sequence[Column]) -> dict[str, Any]:
    """Return a dot's fields: `row`, from the fastest; both ends of each axis's interval."""
    point: dict[str, Any] = {_field(x.heading): plain(x.cell(row)) for x in told}
    for axis in axes:
        known = axis.value(row)
        ends = (known.value, known.low, known.high) if known else (None, None, None)
        point |= {axis.key + end: value for end, value in zip(ENDS, ends, strict=True)}
    eager = row.artifact.runtime == "torch"
    return point | {
        "row": i,
        "label": "torch" if eager else plain(row.candidate),
        "role": _role(row),
        "runtime": row.artifact.runtime,
        "reference": bool(references([row])),
        "places": {},  # in the front, best in x first, for each pair of axes
        "sides": {},  # of the dot, where its name goes; most have none
    }


def _field(heading: str) -> str:
    """Replace dots and brackets, which Vega reads as paths, in a heading that names a field."""
    return "".join(c if c.isalnum() else "_" for c in heading)


def _role(row: Result) -> str:
    """Return what gives the dot its colour."""
    return DROPPED if row.dropped is not None else role(row) or "candidate"


def _place(
    points: list[dict[str, Any]],
    rows: Sequence[Result],
    x: Axis,
    y: Axis,
    domains: dict[str, Domain],
) -> None:
    """Name the front and torch: nothing lies up and left of the front, so names go there."""
    pair = f"{x.key} {y.key}"
    best = [points[i] for i in front(rows, x, y)]
    for place, point in enumerate(best):
        point["places"][pair] = place
    shown = [p for p in points if p[x.key] is not None and p[y.key] is not None]
    eager = [point for point in shown if point["runtime"] == "torch"]
    named = [(point, ("left", "right", "below")) for point in best]
    named += [(point, ("below", "right", "left")) for point in eager]
    room = sides(
        [((point[x.key], point[y.key]), point["label"], tried) for point, tried in named],
        [(point[x.key], point[y.key]) for point in shown],
        domains[x.key],
        domains[y.key],
    )
    for (point, _), side in zip(named, room, strict=True):
        point["sides"][pair] = side


def _titled(made: Spec) -> Spec:
    """Let titles follow the parameters; altair's schema does not know that Vega-Lite takes them.

    The arrows point to where it is better.
    """
    for layer in made["layer"]:
        channels = layer["encoding"]
        across = f"'← ' + {X}.title + ' (log scale)'"
        channels["x"].setdefault("axis", {})["title"] = {"expr": across}
        channels["y"].setdefault("axis", {})["title"] = {"expr": f"{Y}.title + ' →'"}
    return made
