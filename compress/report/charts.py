"""Charts as Vega-Lite made by altair; SVG and PNG need no browser."""

import io
from collections.abc import Sequence
from typing import Any

import altair as alt

from compress.report.tables import task_word
from compress.results.schema import Result, StepReport, Training
from compress.utils.text import plain

Spec = dict[str, Any]
Line = tuple[tuple[int, float], ...]  # of a curve: epoch and value

GREY = "#888888"
# Okabe and Ito's colours, told apart by colour-blind people and on light and dark ground.
BLUE, ORANGE = "#0072B2", "#E69F00"
LAYER_STATES = {"before": GREY, "in int8": ORANGE, "after": BLUE}


def training_chart(rows: Sequence[Result], measure: str) -> Spec | None:
    """Draw `loss` or `validation_top1` (as %) by epoch; None without epochs.

    One line a training: what was quantized afterwards shares that of its parent. A click on a name
    of the legend shows its line alone.
    """
    is_loss = measure == "loss"
    factor, title = (1, "training loss") if is_loss else (100, f"validation {task_word(rows)} %")
    lines: dict[Line, dict[str, None]] = {}  # and the candidates in order
    for row in rows:
        if row.training and (line := _line(row.training, measure, factor)):
            lines.setdefault(line, {})[plain(row.candidate)] = None
    if not lines:
        return None
    data = [
        {"candidate": ", ".join(names), "epoch": epoch, "value": value}
        for line, names in lines.items()
        for epoch, value in line
    ]
    chosen = alt.selection_point(fields=["candidate"], bind="legend")
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(
            x=alt.X("epoch:Q", title="epoch").axis(tickMinStep=1),
            y=alt.Y("value:Q", title=title).scale(zero=False),
            color=alt.Color("candidate:N", title=None, sort=None)
            .scale(scheme="tableau10" if len(lines) <= 10 else "tableau20")
            .legend(columns=1, labelLimit=alt.ExprRef("width - 20")),
            opacity=alt.when(chosen).then(alt.value(1)).otherwise(alt.value(0.08)),
            tooltip=["candidate:N", "epoch:Q", alt.Tooltip("value:Q", title=title, format=".3~f")],
        )
        .add_params(chosen)
    )
    return spec(chart, height=260)


def _line(training: Training, measure: str, factor: float) -> Line:
    values = [(epoch.epoch, getattr(epoch, measure)) for epoch in training.epochs]
    return tuple((epoch, factor * value) for epoch, value in values if value is not None)


def layers_chart(step: StepReport) -> Spec | None:
    """Draw each layer's time as it was and as the step made it; None where nothing was timed.

    Paler: tried, and not kept.
    """
    timed = [decision for decision in step.decisions if decision.before_s is not None]
    alone = len({decision.layer for decision in timed}) == len(timed)
    data = [
        {
            "layer": plain(x.layer if alone else f"{x.layer}, {x.change}"),
            "change": plain(x.change),
            "which": which,
            "ms": 1e3 * seconds,
            "kept": x.kept or which == "before",
        }
        for x in timed
        for which, seconds in (("before", x.before_s), ("in int8", x.int8_s), ("after", x.after_s))
        if seconds is not None
    ]
    states = [name for name in LAYER_STATES if any(x["which"] == name for x in data)]
    if len(states) < 2:
        return None
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_bar()
        .encode(
            x=alt.X("ms:Q", title="milliseconds").axis(tickCount=6),
            y=alt.Y("layer:N", title=None, sort=None).axis(labelLimit=150),
            yOffset=alt.YOffset("which:N", sort=states),
            color=alt.Color("which:N", title=None).scale(
                domain=states, range=[LAYER_STATES[name] for name in states]
            ),
            opacity=alt.condition("datum.kept", alt.value(1), alt.value(0.45)),
            tooltip=["layer:N", "change:N", "which:N", alt.Tooltip("ms:Q", format=".3~g")],
        )
    )
    return spec(chart, height=9 * len(states) * len({x["layer"] for x in data}))


def svg(chart: Spec) -> str:
    """Return the chart as it stands in a document: white ground, fixed width."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(_fixed(chart), vl_version=_version()))


def png(chart: Spec) -> bytes:
    """Draw it in pixels, sharp on dense screens, in an eighth of what vl-convert packs."""
    import vl_convert
    from PIL import Image

    drawn = vl_convert.vegalite_to_png(_fixed(chart), vl_version=_version(), scale=2)
    packed = io.BytesIO()
    Image.open(io.BytesIO(drawn)).convert("RGB").save(packed, "PNG", optimize=True)
    return packed.getvalue()


def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, so that a page needs no network."""
    import vl_convert

    # vl-convert's type hints miss that the snippet is optional.
    bundle = vl_convert.javascript_bundle(vl_version=_version())  # type: ignore[call-arg]
    return str(bundle)


def _version() -> str:
    """Return the Vega-Lite that altair writes for, as vl-convert names it: v6.4.1 -> 6.4."""
    return alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]


def spec(chart: Any, height: int) -> Spec:
    """Return a plain dictionary; as wide as what holds it. (altair's own types are loose: Any.)"""
    sized = chart.properties(width="container", height=height).configure_view(stroke=None)
    sized = sized.configure_axis(gridOpacity=0.5, labelFontSize=11, titleFontSize=12)
    made: Spec = sized.configure_legend(orient="bottom", labelFontSize=11).to_dict()
    # Legends one under another fit a phone; altair's schema does not know the setting.
    made["config"]["legend"]["layout"] = {"bottom": {"direction": "vertical", "anchor": "start"}}
    return made


def _fixed(chart: Spec) -> Spec:
    return {**chart, "width": 760, "background": "white", "padding": 12}
