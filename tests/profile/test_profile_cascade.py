"""A deployed cascade's profile: of a real one, and what is said of numbers that are made up."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from compress.cascade.cascade import Cascade
from compress.cli import app
from compress.data.input_spec import InputSpec
from compress.measure.machine import machine
from compress.measure.macs import count_macs
from compress.models.candidate import Candidate
from compress.models.sessions import open_session
from compress.profile import roofline
from compress.profile.advice import advice
from compress.profile.cascade import inside
from compress.profile.html import html
from compress.profile.records import (
    BETWEEN,
    DECODE,
    LOOK,
    NETWORK,
    NORMALISE,
    Network,
    Part,
    Profile,
)
from compress.profile.run import profile
from compress.profile.settings import Settings
from compress.profile.tables import tables
from compress.profile.terminal import WIDTH, show
from compress.profile.variants import cascade_variants
from compress.profile.warnings import notes
from compress.utils.errors import UserError
from compress.utils.text import plain
from tests.cascade_networks import box, brighter_half, centres
from tests.profiles import HOSTILE, Loads, layer, quicken
from tests.profiles import profile as made_up

SIZE = 32
POINTS = {"red": (1, -1, -1), "blue": (-1, -1, 1)}
STAGES: list[dict[str, Any]] = [
    {"name": "localizer", "model": "box.onnx"},
    {
        "name": "aligner",
        "model": "points.onnx",
        "turns": 3,
        "look": {"crop": {"around": ["top_left", "bottom_right"]}},
    },
    {
        "name": "classifier",
        "model": "names.onnx",
        "look": {"warp": {"red": [0.75, 0.5], "blue": [0.25, 0.5]}},
    },
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "whales"
    folder.mkdir()
    box(folder / "box.onnx", SIZE, half=0.2)
    centres(folder / "points.onnx", SIZE, POINTS)
    brighter_half(folder / "names.onnx", SIZE, ("left", "right"))
    write(folder, STAGES)
    return folder


def write(folder: Path, stages: list[dict[str, Any]]) -> None:
    (folder / "pipeline.json").write_text(json.dumps({"stages": stages}))


def in_torch(folder: Path) -> None:
    """Gives the cascade a classifier that is served from torch."""
    spec = InputSpec(height=SIZE, width=SIZE, mean=(0, 0, 0), std=(1, 1, 1), classes=("a", "b"))
    name = "torchvision.models:shufflenet_v2_x0_5"
    (folder / "torch").mkdir()
    Candidate.create(name, {}, spec, (name,), 0, ()).save(folder / "torch", {}, {})
    classifier = STAGES[2] | {"model": "torch/model.safetensors", "runtime": "torch"}
    write(folder, [*STAGES[:2], classifier])


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """One stands, one lies."""
    rng = np.random.default_rng(0)
    files = []
    for number, size in enumerate([(120, 90), (80, 200)]):
        files.append(tmp_path / f"{number}.jpg")
        pixels = rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(files[-1])
    return files


def test_the_parts_of_a_cascade_nest_and_add_up(folder: Path, images: list[Path]) -> None:
    in_torch(folder)
    found = profile(str(folder), Settings(1, images, audit=False))
    assert (found.model, found.photographs, found.width, found.height) == ("whales", 2, 80, 200)
    assert found.runtime == "onnxruntime and torch" and " and " in found.runtime_version
    assert found.root.seconds == pytest.approx(found.profiled_s) and found.whole_s > 0
    for part in found.root.walk():
        if part.parts:
            assert sum(p.seconds for p in part.parts) == pytest.approx(part.seconds)
    names = ["localizer", "aligner", "classifier"]
    assert [part.name for part in found.root.parts] == [DECODE, *names, "rest"]
    stages = {part.name: part for part in found.root.parts[1:-1]}
    for name, stage in stages.items():
        expected = [f"{name}: {kind}" for kind in (LOOK, NORMALISE, NETWORK)]
        assert [part.name for part in stage.parts] == expected
        assert all(part.seconds > 0 for part in stage.parts)
    assert not stages["classifier"].parts[-1].parts
    for number, name in enumerate(names[:2]):
        network = stages[name].parts[-1]
        its = [x for x in found.layers if x.network == name]
        leaves = [p for p in network.walk() if not p.parts and p.kind != BETWEEN]
        assert [p.seconds for p in leaves] == [x.seconds for x in its]
        assert found.networks[number].seconds == pytest.approx(network.seconds)
        assert found.networks[number].layers == len(its) > 0
    assert list(dict.fromkeys(x.network for x in found.layers)) == names[:2]
    assert found.advice


def test_the_work_of_all_turns_is_counted(folder: Path, images: list[Path]) -> None:
    in_torch(folder)
    fixed = onnx.load(folder / "box.onnx")
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(fixed, folder / "box.onnx")
    stages = json.loads((folder / "pipeline.json").read_text())["stages"]
    write(folder, [stages[0] | {"turns": 2}, *stages[1:]])
    cascade = Cascade.load(folder, 1)
    found = []
    for network in cascade.networks:
        (copies := folder / f"copy of {network.stage.name}").mkdir()
        found.append(inside(network, folder / network.stage.model, 1, 0.5, copies))
    localizer, aligner, classifier = (x.network for x in found)
    assert localizer.macs == 2 * (count_macs(folder / "box.onnx")[0] or 0) > 0
    assert aligner.macs == 3 * (count_macs(folder / "points.onnx")[0] or 0) > 0
    model = open_session(folder / "torch/model.safetensors", "torch", 1).model  # type: ignore[attr-defined]
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, SIZE, SIZE))
    assert classifier.macs == counter.get_total_flops() // 2
    assert classifier.weight_bytes == 4 * sum(p.numel() for p in model.parameters())
    # The layers take the times that the network takes in the cascade.
    for x in found[:2]:
        assert x.part.seconds == pytest.approx(0.5) and x.network.alone_s
        assert sum(p.seconds for p in x.layers) == pytest.approx(
            0.5 - sum(p.seconds for p in x.part.parts if p.name == BETWEEN)
        )
    assert found[2].network.alone_s is None and found[2].layers == []


def test_the_command_prints_json_and_writes_a_page(
    folder: Path, images: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    arguments = ["profile", folder, *images, "--threads", 1, "--json", "--html", page]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [network["stage"] for network in found["networks"]] == [x["name"] for x in STAGES]
    assert {x["network"] for x in found["layers"]} == {x["name"] for x in STAGES}
    assert all(x["bound"] for x in found["layers"] if x["macs"] and x["seconds"])
    gains = {gain["change"]: gain for gain in found["audit"]["gains"]}
    assert "in OpenVINO" in gains and gains["in OpenVINO"]["against"] == "onnxruntime"
    facts = {fact["subject"]: fact["found"] for fact in found["audit"]["facts"]}
    floats = sum(
        np.prod(tensor.dims)
        for file in ("box", "points", "names")
        for tensor in onnx.load(folder / f"{file}.onnx").graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )
    assert f" of {floats:.0f} weights" in facts["denormal numbers"]
    text = page.read_text("utf-8")
    assert "aligner: network" in text and "2 photographs of up to 200 × 80 pixels" in text


def test_the_same_cascade_elsewhere_answers_the_same(
    folder: Path, images: list[Path], tmp_path: Path
) -> None:
    changes = {x.says: x.timed.path for x in cascade_variants(machine(), folder, tmp_path)}
    assert "in OpenVINO" in changes and "in onnxruntime" not in changes
    content = images[0].read_bytes()
    here, there = (Cascade.load(path, 1).find(content) for path in (folder, changes["in OpenVINO"]))
    np.testing.assert_allclose(there.points["red"], here.points["red"], atol=0.1)
    runs = [x.session for x in Cascade.load(changes["in OpenVINO"], 1).networks]
    assert {type(x).__name__ for x in runs} == {"OpenVinoSession"}
    (again := tmp_path / "again").mkdir()
    says = [x.says for x in cascade_variants(machine(), changes["in OpenVINO"], again)]
    assert "in OpenVINO" not in says and "in onnxruntime" in says
    in_torch(folder)
    assert cascade_variants(machine(), folder, tmp_path) == []


def test_faults_are_said(folder: Path, images: list[Path], tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    cases = [
        (folder, Settings(), "give photographs, compress profile"),
        (folder, Settings(photographs=images, size=64), "--size, --batch and --runtime are for"),
        (folder, Settings(photographs=images, batch=2), "--size, --batch and --runtime are for"),
        (folder, Settings(photographs=[tmp_path / "none.jpg"]), "none.jpg cannot be timed on"),
        (folder, Settings(photographs=[tmp_path / "text.jpg"]), "text.jpg cannot be timed on"),
        (empty, Settings(photographs=images), "holds no pipeline.json"),
        (folder / "box.onnx", Settings(photographs=images), "does not depend on what is on"),
        ("torchvision.models:resnet18", Settings(photographs=images), "leave the images out"),
    ]
    for model, settings, words in cases:
        with pytest.raises(UserError) as refused:
            profile(str(model), settings)
        assert words in str(refused.value), words
    done = CliRunner().invoke(app, ["profile", str(folder)])
    assert isinstance(done.exception, UserError) and "give photographs" in str(done.exception)


def of_cascade(
    decode_s: float = 0.01,
    look_s: float = 0.01,
    normalise_s: float = 0.01,
    network_s: float = 0.01,
    turns: int = 1,
    of_torch: bool = False,
    name: str = "aligner",
    **facts: Any,
) -> Profile:
    """One stage; in onnxruntime its network has one layer, and as long again between layers."""
    its = layer(f"{name}.0", network=name, block=name, seconds=network_s / 2)
    between = Part(name=BETWEEN, seconds=network_s / 2, kind=BETWEEN)
    inner = (Part(name=its.name, seconds=its.seconds, kind=its.operation), between)
    parts = (
        Part(name=f"{name}: {LOOK}", seconds=look_s, kind=LOOK),
        Part(name=f"{name}: {NORMALISE}", seconds=normalise_s, kind=NORMALISE),
        Part(
            name=f"{name}: {NETWORK}",
            seconds=network_s,
            kind=NETWORK,
            parts=() if of_torch else inner,
        ),
    )
    stage = Part(name=name, seconds=look_s + normalise_s + network_s, parts=parts)
    decode = Part(name=DECODE, seconds=decode_s, kind=DECODE)
    root = Part(name=name, seconds=decode_s + stage.seconds, parts=(decode, stage))
    network = Network(
        stage=name,
        model=f"{name}/model.onnx",
        runtime="torch" if of_torch else "onnxruntime",
        height=64,
        width=48,
        turns=turns,
        layers=0 if of_torch else 1,
        macs=10**9,
        weight_bytes=its.weight_bytes,
        seconds=network_s,
        alone_s=None if of_torch else network_s,
    )
    found = {"networks": [network], "photographs": 3, "model": name, **facts}
    return made_up([] if of_torch else [its], root, **found)


def test_the_bottleneck_is_named_with_what_to_try() -> None:
    assert advice(of_cascade(network_s=0.02)) == [
        "The aligner's network takes 40.0 % of the time, nearly all of it in conv 3×3 layers. "
        "They reach 90 % of this machine's limit and are bound by compute: only less work makes "
        "them faster. Prune or distil, or quantize: in int8 this machine's limit is 4.0 times as "
        "high.",
        "Networks take 40.0 %, decoding 20.0 %, cutting out 20.0 %, normalising 20.0 %: if the "
        "networks took no time at all, the cascade would be 1.7 times as fast.",
        "20.0 % of the time lies between the layers: the network is small for this runtime. "
        "Fewer layers, or several images a call, help more than narrower ones.",
    ]
    said = {
        "Decoding takes 40.0 % of the time: smaller photographs help most": {"decode_s": 0.02},
        "Cutting out what the aligner looks at takes 40.0 %": {"look_s": 0.02},
        "Normalising the input of the aligner's network takes 40.0 %": {"normalise_s": 0.02},
        "The aligner's network takes 50.0 % of the time: distil it. It runs in torch": {
            "network_s": 0.03,
            "of_torch": True,
        },
    }
    for words, facts in said.items():
        assert advice(of_cascade(**facts))[0].startswith(words)  # type: ignore[arg-type]
    turned = advice(of_cascade(network_s=0.03, turns=4))[0]
    assert turned.endswith("It is shown 4 turns of its view: try fewer.")


def test_doubts_are_said() -> None:
    found = of_cascade()
    assert notes(found) == []
    slower = found.networks[0].model_copy(update={"alone_s": 0.008})
    (said,) = notes(found.model_copy(update={"networks": [slower]}))
    assert "the aligner's network took 10.0 ms, alone 8.00 ms" in said
    assert "multiplied by 1.25" in said
    (said,) = notes(found.model_copy(update={"whole_s": found.root.seconds / 1.1}))
    assert "add up to 110 %" in said


@pytest.mark.parametrize("of_torch", [False, True])
def test_terminal_and_page_show_every_part(of_torch: bool) -> None:
    found = of_cascade(of_torch=of_torch, name=HOSTILE, turns=4)
    found = found.model_copy(update={"advice": advice(found)})
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    show(found, console)
    text = console.export_text()
    said = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= WIDTH and "\x1b" not in text
    assert "3 photographs of up to 64 × 64 pixels" in said
    assert all(kind in said for kind in (DECODE, LOOK, NORMALISE, NETWORK))
    page = html(found)
    loads = Loads()
    loads.feed(page)
    assert loads.found == [] and "img" not in loads.tags
    boxes = json.loads(page.split('id="chart">')[1].split("</script>")[0])
    boxes = boxes["datasets"][boxes["data"]["name"]]
    assert sum(b["leaf"] for b in boxes) == (4 if of_torch else 5)
    facts = [b["part"] for b in boxes if b["operation"] != "–"]
    assert facts == ([] if of_torch else [plain(f"{HOSTILE}.0")])


def test_a_kernel_that_takes_no_time_has_no_rate() -> None:
    found = of_cascade()
    fast = found.layers[0].model_copy(update={"seconds": 0.0})
    (entry,) = roofline.as_json(found.model_copy(update={"layers": [fast]}))["layers"]
    assert entry["macs"] and entry["macs_per_s"] is None and entry["bound"] is None


def test_work_is_told_of_networks() -> None:
    stages, networks, operations, blocks, each = tables(of_cascade())
    assert [row[1] for row in stages.rows] == ["40.0", "10.0", "30.0", "10.0", "10.0", "10.0"]
    assert stages.rows[-1][2:] == ["25.0", "0.900", "1.00", "90.0", "180", "compute"]
    assert all(row[3:] == ["–"] * 5 for row in stages.rows[:-1])
    assert networks.rows == [
        ["aligner", "aligner/model.onnx", "onnxruntime", "64×48", "1", "1", "0.400"]
    ]
    assert [row[3] for row in blocks.rows] == ["5.00", "5.00", "10.0"]
    assert [row[3] for row in operations.rows] == ["5.00", "5.00", "10.0"]
    assert blocks.title.startswith("aligner: by block") and blocks.headings[0] == "block"
    assert each.rows[0][0] == "aligner: aligner.0"
    in_torch, _ = tables(of_cascade(of_torch=True))
    assert in_torch.rows[-1][2:] == ["25.0", "1.00", "–", "100", "100", "–"]
