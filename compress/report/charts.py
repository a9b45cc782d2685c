"""The Pareto front and the training curves as Vega-Lite; SVG and PNG need no browser."""

import io
from collections.abc import Sequence
from typing import Any

import altair as alt

from compress.choose import Budget, fits
from compress.pareto import deployed, front_rows
from compress.report.roles import CONTROL, DROPPED, FROM_SCRATCH, NO_TEACHER, role
from compress.report.table import columns, more_columns
from compress.report.text import plain
from compress.report.units import TIMES, points_typed
from compress.results import Result

Spec = dict[str, Any]

GREY = "#888888"
# Okabe and Ito's colours, told apart by colour-blind people and on light and dark ground.
ROLES = {
    "teacher": "#D55E00",
    "candidate": "#0072B2",
    NO_TEACHER: "#CC79A7",
    FROM_SCRATCH: "#E69F00",
    CONTROL: "#56B4E9",
    DROPPED: GREY,
}
SHAPES = {
    "onnxruntime": "circle",
    "openvino": "square",
    "openvino-bf16": "diamond",
    "torch": "triangle-up",
}
GREEN = "#009E73"
FITS = "fits the budget"
LABELS = 0.22  # share of the width that is kept free for names, left of the fastest point


def pareto_chart(rows: Sequence[Result], budget: Budget | None) -> Spec:
    """Latency (log) against top-1 with intervals, the front, the budget and every number.

    The tooltip of a point holds both tables' cells of its row. Torch rows are shown, as reference,
    but are not in the front.
    """
    front = front_rows(rows)
    dots = [_point(row, row in front, rows, budget) for row in rows]
    areas = _areas(rows, budget)
    times = [x for p in dots for x in (p["ms_low"], p["ms_high"])] + [a["ms"] for a in areas]
    top1s = [y for p in dots for y in (p["top1_low"], p["top1_high"])]
    left, right = min(times), 1.4 * max(times)
    left /= (right / left) ** (LABELS / (1 - LABELS))
    low, high = min(top1s + [a["top1"] for a in areas]) - 1, min(101, max(top1s) + 1)
    _place_labels(dots, (high - low) / 24, right / left)
    x = alt.X("ms:Q", title="milliseconds a picture (log scale)").scale(
        type="log", nice=False, domain=[left, right]
    )
    y = alt.Y("top1:Q", title="top-1 %").scale(zero=False, nice=False, domain=[low, high])
    base = alt.Chart(alt.InlineData(values=dots)).encode(x=x, y=y)
    layers = [
        *_budget_layers([{**a, "left": left, "top": high} for a in areas], x, y),
        base.mark_rule(color=GREY, opacity=0.45).encode(y="top1_low:Q", y2="top1_high:Q"),
        base.mark_rule(color=GREY, opacity=0.45).encode(x="ms_low:Q", x2="ms_high:Q"),
        base.transform_filter("datum.front").mark_line(
            interpolate="step-after", color=GREY, strokeDash=[5, 3]
        ),
        _marks(base, rows, budget),
        _labels(base, "left", align="right", dx=-7, dy=-9),
        _labels(base, "right", align="left", dx=7, dy=-9),
        _labels(base, "below", align="center", dy=15),
    ]
    return sized_spec(alt.layer(*layers), height=430)


def training_chart(rows: Sequence[Result], measure: str) -> Spec | None:
    """`loss` or `validation_top1` (as %) by epoch, one line a candidate; None without epochs."""
    factor, title = (1, "training loss") if measure == "loss" else (100, "validation top-1 %")
    values = {
        (plain(row.candidate), epoch.epoch): factor * value
        for row in rows
        if row.training
        for epoch in row.training.epochs
        if (value := getattr(epoch, measure)) is not None
    }
    if not values:
        return None
    data = [
        {"candidate": name, "epoch": epoch, "value": value}
        for (name, epoch), value in values.items()
    ]
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("epoch:Q", title="epoch").axis(tickMinStep=1),
            y=alt.Y("value:Q", title=title).scale(zero=False),
            color=alt.Color("candidate:N", title=None).legend(columns=2, labelLimit=160),
            tooltip=["candidate:N", "epoch:Q", alt.Tooltip("value:Q", title=title, format=".3~f")],
        )
    )
    return sized_spec(chart, height=260)


def svg(spec: Spec) -> str:
    """The chart as it stands in a document: white ground, fixed width."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(_fixed(spec), vl_version=_version()))


def png(spec: Spec) -> bytes:
    """The same picture in pixels, sharp on dense screens, an eighth of what vl-convert packs."""
    import vl_convert
    from PIL import Image

    drawn = vl_convert.vegalite_to_png(_fixed(spec), vl_version=_version(), scale=2)
    packed = io.BytesIO()
    Image.open(io.BytesIO(drawn)).convert("RGB").save(packed, "PNG", optimize=True)
    return packed.getvalue()


def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, so that a page needs no network."""
    import vl_convert

    # vl-convert's type hints miss that the snippet is optional.
    bundle = vl_convert.javascript_bundle(vl_version=_version())  # type: ignore[call-arg]
    return str(bundle)


def _version() -> str:
    """The Vega-Lite that altair writes for, as vl-convert names it: v6.4.1 -> 6.4."""
    return alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]


def sized_spec(chart: Any, height: int) -> Spec:
    """A plain dictionary; as wide as what holds it. (altair's own types are loose: Any.)"""
    sized = chart.properties(width="container", height=height).configure_view(stroke=None)
    sized = sized.configure_axis(gridOpacity=0.5, labelFontSize=11, titleFontSize=12)
    spec: Spec = sized.configure_legend(orient="bottom", labelFontSize=11).to_dict()
    # Legends one under another fit a phone; altair's schema does not know the setting.
    spec["config"]["legend"]["layout"] = {"bottom": {"direction": "vertical", "anchor": "start"}}
    return spec


def _fixed(spec: Spec) -> Spec:
    return {**spec, "width": 760, "background": "white", "padding": 12}


def _key(heading: str) -> str:
    """Vega reads dots and brackets in a field as paths; a heading has neither after this."""
    return "".join(c if c.isalnum() else "_" for c in heading)


def _point(
    row: Result, front: bool, rows: Sequence[Result], budget: Budget | None
) -> dict[str, Any]:
    cells = {_key(c.heading): plain(c.cell(row)) for c in (*columns(rows), *more_columns(rows))}
    time = 1e3 * row.latency_s
    # The paired ratio is known better than the time: its interval, turned into a time.
    ratio = row.speedup.ratio if row.speedup else None
    return {
        **cells,
        _key(FITS): "yes" if budget and fits(row, budget) else "no",
        "label": plain(row.candidate),
        "role": _role(row),
        "runtime": row.artifact.runtime,
        "front": front,
        "ms": time,
        "ms_low": time * ratio.value / ratio.high if ratio else time,
        "ms_high": time * ratio.value / ratio.low if ratio else time,
        "top1": 100 * row.accuracy.top1.value,
        "top1_low": 100 * row.accuracy.top1.low,
        "top1_high": 100 * row.accuracy.top1.high,
    }


def _role(row: Result) -> str:
    """What gives the dot its colour."""
    return DROPPED if row.dropped is not None else role(row) or "candidate"


def _areas(rows: Sequence[Result], budget: Budget | None) -> list[dict[str, Any]]:
    """The corner a point must reach: one for each runtime that the teacher was measured in."""
    if budget is None:
        return []
    lost = points_typed(budget.max_accuracy_drop)
    return [
        {
            "ms": 1e3 * row.latency_s / budget.speedup,
            "top1": 100 * (row.accuracy.top1.value - budget.max_accuracy_drop),
            "label": f"budget: {budget.speedup:g}{TIMES}, {lost}",
        }
        for row in deployed(rows)
        if row.role == "teacher"
    ]


def _budget_layers(areas: list[dict[str, Any]], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    if not areas:
        return []
    base = alt.Chart(alt.InlineData(values=areas)).encode(x=x, y=y)
    named = alt.Chart(alt.InlineData(values=areas[:1])).encode(x=alt.X("left:Q"), y="top:Q")
    return [
        base.mark_rect(color=GREEN, opacity=0.13).encode(x2="left:Q", y2="top:Q"),
        base.mark_rule(color=GREEN).encode(y2="top:Q"),
        base.mark_rule(color=GREEN).encode(x2="left:Q"),
        named.mark_text(align="left", baseline="top", dx=7, dy=7, fontWeight="bold").encode(
            text="label:N"
        ),
    ]


def _marks(base: alt.Chart, rows: Sequence[Result], budget: Budget | None) -> alt.Chart:
    headings = [c.heading for c in (*columns(rows), *more_columns(rows)[2:])]
    if budget:
        headings.append(FITS)
    roles = [name for name in ROLES if name in {_role(row) for row in rows}]
    shapes = [name for name in SHAPES if name in {row.artifact.runtime for row in rows}]
    marks: alt.Chart = base.mark_point(filled=True, size=110, opacity=1).encode(
        color=alt.Color("role:N", title=None).scale(domain=roles, range=[ROLES[x] for x in roles]),
        shape=alt.Shape("runtime:N", title=None)
        .scale(domain=shapes, range=[SHAPES[x] for x in shapes])
        .legend(symbolFillColor=GREY),
        tooltip=[alt.Tooltip(f"{_key(heading)}:N", title=heading) for heading in headings],
    )
    return marks


def _labels(base: alt.Chart, side: str, **place: Any) -> alt.Chart:
    chosen = base.transform_filter(f"datum.side === '{side}'")
    limit = alt.ExprRef(f"{LABELS} * width")
    labels: alt.Chart = chosen.mark_text(limit=limit, **place).encode(text="label:N")
    return labels


def _place_labels(dots: list[dict[str, Any]], line: float, span: float) -> None:
    """Names the front and torch: nothing lies up and left of the front, so names go there.

    A name that would meet the one before goes to the right. `line` is the height of a line of
    text in top-1 %, `span` the ratio of the latest to the earliest time shown.
    """
    ms, top1, side = 0.0, 0.0, "left"
    for dot in sorted(dots, key=lambda dot: dot["ms"]):
        if dot["runtime"] == "torch":
            dot.update(side="below", label="torch")
        elif dot["front"]:
            width = min(LABELS, 0.01 * len(dot["label"]))
            close = dot["top1"] - top1 < line and dot["ms"] < ms * span**width
            side = "right" if close and side == "left" else "left"
            dot["side"] = side
            ms, top1 = dot["ms"], dot["top1"]
