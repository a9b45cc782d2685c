"""What a profile says, on profiles whose numbers are made up."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from compress.measure.latency import summarise
from compress.measure.layer_profile import LAYOUT, Layer
from compress.measure.processes import Timed
from compress.profile.advice import advice, shortest_run
from compress.profile.audit import BASE, Change, gains_of
from compress.profile.html import html
from compress.profile.records import BETWEEN, NMS, Audit, Fact, Part, Profile
from compress.profile.tables import tables
from compress.profile.terminal import WIDTH, show
from compress.profile.warnings import notes
from tests.profiles import HOSTILE, Loads, gain, layer, profile


def of_layers(layers: list[Layer], between_s: float = 0.0, **facts: object) -> Profile:
    """Blocks in the order of the layers."""
    blocks: dict[str, list[Part]] = {}
    for x in layers:
        part = Part(name=x.name, seconds=x.seconds, kind=x.operation)
        blocks.setdefault(x.block, []).append(part)
    parts = [
        Part(name=name, seconds=sum(p.seconds for p in inside), parts=tuple(inside))
        for name, inside in blocks.items()
    ]
    parts.append(Part(name=BETWEEN, seconds=between_s, kind=BETWEEN))
    root = Part(name="model", seconds=sum(p.seconds for p in parts), parts=tuple(parts))
    return profile(layers, root, **facts)


def test_the_bottleneck_is_the_fewest_neighbours_with_most_of_the_time() -> None:
    assert shortest_run([("a", 1), ("b", 5), ("c", 3), ("d", 1)], 0.5) == (1, 1)
    assert shortest_run([("a", 1), ("b", 5), ("c", 3), ("d", 1)], 0.6) == (1, 2)
    assert shortest_run([("a", 1), ("b", 1)], 0.9) == (0, 1)
    assert shortest_run([("a", 1), ("b", 1)], 0.5) == (0, 0)


def test_layers_at_the_limit_need_less_work() -> None:
    blocks = ("features.0 to features.4", "features.5", "classifier")
    layers = [layer(f"x.{i}", block=block) for i, block in enumerate(blocks)]
    said = advice(of_layers(layers))
    assert said == [
        "features.0 to features.5 take 66.7 % of the time, nearly all of it in conv 3×3 layers. "
        "They reach 90 % of this machine's limit and are bound by compute: only less work makes "
        "them faster. Prune or distil, or quantize: in int8 this machine's limit is 4.0 times as "
        "high."
    ]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"seconds": 0.02}, "part of it is to be had from another runtime. Then prune"),
        ({"seconds": 0.05}, "small or awkward shapes for this runtime. Try another runtime"),
        ({"macs": 10**6, "activation_bytes": 99 * 10**6}, "bound by memory: fewer bytes"),
        ({"precision": "int8", "seconds": 0.0025}, "Prune or distil."),
    ],
)
def test_what_to_try_depends_on_what_binds(facts: dict[str, object], expected: str) -> None:
    assert expected in advice(of_layers([layer(**facts)]))[0]


def test_linear_layers_that_hold_bytes_are_for_size_only() -> None:
    linear = layer("fc", operation="linear", weight_bytes=1_600_000, macs=0, seconds=0.0003)
    said = advice(of_layers([layer(), linear]))[1]
    assert said.startswith("Linear layers hold 80.0 % of the weights' bytes and take 2.9 % of the")
    assert "for size" in said
    heavy = linear.model_copy(update={"seconds": 0.01})
    convolutions = [layer(seconds=0.002) for _ in range(5)]
    assert "it saves both" in advice(of_layers([*convolutions, heavy]))[1]
    assert len(advice(of_layers([layer()]))) == 1


def test_gaps_and_layouts_are_said() -> None:
    layout = layer("", operation=LAYOUT, macs=0, seconds=0.005)
    said = advice(of_layers([layer(), layout], between_s=0.005))
    assert said[1].startswith("25.0 % of the time goes into changing the layout")
    assert said[2].startswith("25.0 % of the time lies between the layers")


def test_the_cheap_win_comes_first_if_it_is_one() -> None:
    gains = [
        gain("in OpenVINO", 1.2, 1.3, 1.4),
        gain("with luck", 0.9, 2.0, 4.0),
        gain("in bfloat16", 1.5, 1.6, 1.7, but="rounds to 3 digits"),
        gain("2 threads instead of 1", 1.8, 1.9, 2.0, against="otherwise the same"),
    ]
    said = advice(of_layers([layer()], audit=Audit(facts=[], gains=gains)))
    assert said[0] == (
        "Before any compression, in OpenVINO: 1.30× (1.20 to 1.40) as fast as torch eager."
    )
    assert said[1] == (
        "In bfloat16: 1.60× (1.50 to 1.70) as fast as torch eager, but it rounds to 3 digits: "
        "check its answers first."
    )
    assert len(advice(of_layers([layer()], audit=Audit(facts=[], gains=gains[1::2])))) == 1


def detector(backbone_s: float) -> Profile:
    nms = Part(name=NMS, seconds=0.1)
    rpn = Part(name="rpn", seconds=0.5, parts=(nms, Part(name="rest of rpn", seconds=0.4)))
    parts = (
        Part(name="transform", seconds=0.1),
        Part(name="backbone", seconds=backbone_s, macs=10**10),
        rpn,
        Part(name="roi_heads", seconds=0.4),
        Part(name=BETWEEN, seconds=0.0, kind=BETWEEN),
    )
    root = Part(name="FasterRCNN", seconds=1.0 + backbone_s, parts=parts)
    return profile([], root, random_weights=True, runtime="torch eager")


def test_is_it_the_backbone_or_the_region_part() -> None:
    assert advice(detector(3.0)) == [
        "It is the backbone: 75.0 % of the time, the region part 22.5 % (non-maximum suppression "
        "2.5 %). Try a smaller or distilled backbone, or smaller images, before touching the "
        "heads."
    ]
    assert advice(detector(0.25))[0].startswith(
        "It is the region part: 72.0 % of the time, the backbone 20.0 %"
    )


def test_doubts_are_said() -> None:
    found = of_layers([layer()])
    assert notes(found) == []
    audit = Audit(facts=[], gains=[], disturbance_cores=0.2)
    changes = {"profiled_s": 0.012, "disturbance_cores": 0.7, "audit": audit}
    first, second, third = notes(found.model_copy(update=changes))
    assert "20 % longer" in first and "2000.0 µs a layer" in first and "rough" in first
    little = found.model_copy(update={"whole_s": 1e-4, "profiled_s": 1.1e-4})
    assert "10.0 µs a layer" in notes(little)[0] and "the same from each" in notes(little)[0]
    assert "0.7 cores while the parts" in second and "0.2 cores while the variants" in third
    assert "add up to 50 %" in notes(found.model_copy(update={"whole_s": 0.02}))[-1]
    assert "random weights" in notes(detector(3.0))[0]


def test_gains_are_ratios_of_times_and_one_that_the_base_has_is_turned_round() -> None:
    def timed(seconds: float) -> list[object]:
        return [summarise([[seconds, seconds]] * 5, 1, 1)]

    file = Timed(Path("model.onnx"), "onnxruntime")
    found = gains_of(
        {BASE: timed(0.02), "in OpenVINO": timed(0.01), "2 threads instead of 1": timed(0.06)},  # type: ignore[arg-type]
        "onnxruntime",
        [Change("in OpenVINO", file), Change("2 threads instead of 1", file, undone=True)],
    )
    assert [(g.change, g.ratio.value, g.against, g.median_s) for g in found] == [
        ("2 threads instead of 1", pytest.approx(3.0), "otherwise the same", 0.02),
        ("in OpenVINO", pytest.approx(2.0), "onnxruntime", 0.01),
    ]


def hostile() -> Profile:
    layers = [layer(f"{HOSTILE}.{i}", block=HOSTILE) for i in range(20)]
    audit = Audit(
        facts=[Fact(subject="torch's libraries", found="oneDNN " * 20, advice="update " * 9)],
        gains=[gain("in OpenVINO with bfloat16", 1.2, 1.3, 1.4)],
    )
    found = of_layers(layers, between_s=0.01, audit=audit, model=HOSTILE)
    return found.model_copy(update={"advice": advice(found), "notes": [HOSTILE]})


@pytest.mark.parametrize("found", [hostile(), detector(3.0)], ids=["layers", "detector"])
def test_the_page_loads_nothing_and_names_do_nothing(found: Profile) -> None:
    page = html(found)
    loads = Loads()
    loads.feed(page)
    assert loads.found == [] and "img" not in loads.tags
    assert "default-src 'none'" in page
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    text = re.search('id="chart">(.*?)</script>', page, re.DOTALL)
    assert text
    chart = json.loads(text[1])
    boxes = chart["datasets"][chart["data"]["name"]]
    spans = [(b["start"], b["end"]) for b in boxes if b["row"] == 1]
    assert [s for s, _ in spans[1:]] == pytest.approx([e for _, e in spans[:-1]])
    assert spans[0][0] == 0 and spans[-1][1] == pytest.approx(1e3 * found.root.seconds)
    assert sum(b["leaf"] for b in boxes) >= len(found.layers)


@pytest.mark.parametrize("found", [hostile(), detector(3.0)], ids=["layers", "detector"])
def test_the_terminal_shows_all_in_100_columns(found: Profile) -> None:
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    show(found, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\x1b" not in text and BETWEEN in text
    assert ("What to try first" in text) == bool(found.advice)
    if found.layers:
        assert "The 15 slowest of 20 layers" in text and "1.30× (1.20 to 1.40)" in text


def test_rows_add_up_and_shares_are_of_the_whole() -> None:
    layers = [layer(block="a"), layer(block="b", operation="linear", macs=None)]
    operations, blocks, each = tables(of_layers(layers, between_s=0.02))
    for grid in (operations, blocks):
        assert [row[3] for row in grid.rows] == ["10.0", "10.0", "20.0", "40.0"]
        assert [row[4] for row in grid.rows] == ["25.0", "25.0", "50.0", "100.0"]
    assert operations.rows[0] == [
        *("conv 3×3", "1", "0.400", "10.0", "25.0", "0.900", "1.00", "90.0", "90", "compute")
    ]
    assert operations.rows[1][5:] == ["–", "1.00", "–", "–", "–"]  # work that nobody can count
    assert len(each.rows) == 2
    assert all(
        len(row) == len(grid.headings) for grid in (operations, blocks, each) for row in grid.rows
    )
