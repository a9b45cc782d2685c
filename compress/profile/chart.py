"""The flame chart: the parts of a call side by side, each above what it consists of."""

from collections.abc import Iterator
from typing import Any

import altair as alt

from compress.measure.layer_profile import Layer
from compress.profile.layer_tables import operation
from compress.profile.records import BETWEEN, NO_LAYERS, Part, Profile
from compress.profile.roofline import reach
from compress.report.charts import Spec, spec
from compress.utils.text import plain
from compress.utils.units import NONE, ms, percent

# Paul Tol's light colours, on which dark names can be read, told apart by colour-blind people.
COLOURS = ("#77AADD", "#EE8866", "#44BB99", "#EEDD88", "#FFAABB", "#99DDFF")
REST, BLOCK = "#AAAAAA", "#DDDDDD"
OTHER = "other"
LEAST_SHARE = 0.005  # of the time, for a kind of layer to have a colour
ROW = 26  # pixels


def flame_chart(profile: Profile, shown_s: float | None = None) -> Spec:
    """Draw time to the right, nesting downwards; the wheel zooms, dragging moves.

    Args:
        shown_s: how much time the chart is wide; None: the whole call.
    """
    leaves = [part for part in _leaves(profile.root) if part.kind not in NO_LAYERS]
    layers = dict(zip(map(id, leaves), profile.layers, strict=False))  # a detector has none
    boxes = list(_boxes(profile.root, 0.0, 0, profile, layers))
    kinds = _kinds(profile.root)
    for box in boxes:
        colour = box["kind"] if box["kind"] in kinds else OTHER
        box["colour"] = colour if box["leaf"] else ""
    domain = [*kinds, OTHER]
    depth = 1 + max(box["row"] for box in boxes)
    base = alt.Chart(alt.InlineData(values=boxes)).encode(
        x=alt.X("start:Q", title="milliseconds").scale(
            nice=False, domain=[0, 1e3 * (shown_s or profile.root.seconds)]
        ),
        x2="end:Q",
    )
    bars = base.mark_rect(stroke="white", strokeWidth=0.7, clip=True).encode(
        y=alt.Y("row:O", title=None, axis=None).scale(paddingInner=0.06),
        color=alt.condition(
            "datum.colour",
            alt.Color("colour:N", title=None).scale(
                domain=domain, range=[*COLOURS[: len(kinds)], REST]
            ),
            alt.value(BLOCK),
        ),
        tooltip=[alt.Tooltip(f"{field}:N", title=field.replace("_", " ")) for field in _FIELDS],
    )
    width = "scale('x', datum.end) - scale('x', datum.start)"
    names = base.mark_text(
        align="left",
        dx=4,
        fontSize=11,
        clip=True,
        limit=alt.ExprRef(f"max(1, {width} - 6)"),
        opacity=alt.ExprRef(f"{width} > 28 ? 1 : 0"),
        color="#10151c",
    ).encode(y="row:O", text="label:N")
    zoom = alt.selection_interval(bind="scales", encodings=["x"])
    return spec(alt.layer(bars.add_params(zoom), names), height=ROW * depth)


_FIELDS = ("part", "time", "share", "operation", "makes", "work", "moves", "of_limit")


def _leaves(part: Part) -> Iterator[Part]:
    return (inner for inner in part.walk() if not inner.parts)


def _kinds(root: Part) -> list[str]:
    seconds: dict[str, float] = {}
    for leaf in _leaves(root):
        seconds[leaf.kind] = seconds.get(leaf.kind, 0.0) + leaf.seconds
    seconds.pop(BETWEEN, None)
    known = [kind for kind in seconds if seconds[kind] >= LEAST_SHARE * root.seconds]
    return sorted(known, key=lambda kind: -seconds[kind])[: len(COLOURS)]


def _boxes(
    part: Part, start: float, row: int, profile: Profile, layers: dict[int, Layer], above: str = ""
) -> Iterator[dict[str, Any]]:
    layer = layers.get(id(part))
    yield {
        **dict.fromkeys(_FIELDS, NONE),
        "start": 1e3 * start,
        "end": 1e3 * (start + part.seconds),
        "row": row,
        "leaf": not part.parts,
        "kind": part.kind,
        "label": plain(part.name.removeprefix(f"{above}.")),
        "part": plain(part.name),
        "time": f"{ms(part.seconds)} ms",
        "share": f"{percent(part.seconds / profile.root.seconds)} %",
        **(_facts(layer, profile) if layer else {}),
    }
    for inner in part.parts:
        yield from _boxes(inner, start, row + 1, profile, layers, part.name)
        start += inner.seconds


def _facts(layer: Layer, profile: Profile) -> dict[str, str]:
    found = reach(layer, profile.limits) if profile.limits else None
    return {
        "operation": plain(operation(layer)),
        "makes": "×".join(map(str, layer.output_shape)),
        "work": f"{layer.macs / 1e6:.1f} MMAC" if layer.macs else NONE,
        "moves": f"{layer.bytes / 1e6:.2f} MB",
        "of_limit": f"{100 * found.share:.0f} %, bound by {found.bound}" if found else NONE,
    }
