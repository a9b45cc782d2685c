"""The whole command on tiny networks: files, builders, a detector, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    ssdlite320_mobilenet_v3_large,
)
from typer.testing import CliRunner

from compress.cli import app
from compress.measure.deployable import as_deployed
from compress.measure.layer_times import LayerShape, chain_model
from compress.measure.machine import machine
from compress.models.sessions import open_session
from compress.profile import audit, blocks
from compress.profile.audit import facts_of
from compress.profile.detector import time_detector
from compress.profile.records import BETWEEN, NMS, Part
from compress.profile.run import profile
from compress.profile.settings import Settings
from compress.profile.tables import setting
from compress.profile.target import built
from compress.profile.variants import fewer_proposals, saved_in
from compress.utils.errors import UserError
from tests.onnx_graphs import FLOAT, Dims, save
from tests.outputs import only
from tests.profiles import quicken

CHAIN = (
    LayerShape(3, 16, (3, 3), padding=(1, 1), input_size=(16, 16)),
    LayerShape(16, 8, (1, 1), input_size=(16, 16)),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chain.onnx"
    onnx.save(chain_model(CHAIN), path)
    return path


def test_a_file_is_profiled_with_the_gains_of_other_runtimes(file: Path) -> None:
    found = profile(str(file), Settings(threads=1))
    assert [(x.operation, x.macs) for x in found.layers if x.macs] == [
        ("conv 3×3", CHAIN[0].macs), ("conv 1×1", CHAIN[1].macs)
    ]  # fmt: skip
    assert found.macs == sum(shape.macs for shape in CHAIN)
    assert found.root.seconds == pytest.approx(found.whole_s, rel=0.05)
    assert (found.runtime, found.height, found.batch) == ("onnxruntime", 16, 1)
    assert found.audit is not None
    gains = {gain.change: gain for gain in found.audit.gains}
    assert "in OpenVINO" in gains and not any("threads" in change for change in gains)
    assert all(0 < gain.ratio.low <= gain.ratio.value <= gain.ratio.high for gain in gains.values())
    assert found.advice


def test_a_builder_is_exported_and_compared_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    # In so short a run one disturbed kernel can take most of the time, and blocks would be split.
    monkeypatch.setattr(blocks, "LARGEST", 1.0)
    name = "torchvision.models:shufflenet_v2_x0_5"
    found = profile(name, Settings(threads=1, size=32))
    assert found.random_weights and found.model == name
    assert {"conv1", "stage2", "stage3", "stage4", "conv5", "fc"} <= {x.block for x in found.layers}
    assert found.audit is not None
    changes = {gain.change: gain.against for gain in found.audit.gains}
    assert changes["in onnxruntime"] == changes["channels_last in torch"] == "torch eager"


def test_torch_computes_the_same_in_every_variant(tmp_path: Path) -> None:
    network = built("torchvision.models:shufflenet_v2_x0_5", 32, ())
    path = saved_in(tmp_path / "torch", network)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    contiguous, channels_last, bfloat16 = (
        only(open_session(path, runtime, 1).run(images))
        for runtime in ("torch-contiguous", "torch", "torch-bf16")
    )
    np.testing.assert_allclose(channels_last, contiguous, atol=1e-4 * contiguous.std())
    np.testing.assert_allclose(bfloat16, contiguous, atol=0.1 * contiguous.std())
    assert (bfloat16 != contiguous).any()


DETECTOR = "torchvision.models.detection:fasterrcnn_mobilenet_v3_large_320_fpn"


def test_a_detector_is_split_into_backbone_and_regions() -> None:
    found = profile(DETECTOR, Settings(threads=1, size=64, audit=False))
    assert found.layers == [] and (found.height, found.runtime) == (64, "torch eager")
    names = [part.name for part in found.root.parts]
    assert names == ["transform", "backbone", "rpn", "roi_heads", BETWEEN]
    assert found.advice[0].startswith("It is the")


def test_a_detector_runs_from_its_file_with_fewer_proposals(tmp_path: Path) -> None:
    network = built(DETECTOR, 64, ())
    assert network.detector
    (change,) = fewer_proposals(network, tmp_path / "fewer")
    assert change.says == "with 37 proposals instead of 150"
    session = open_session(change.timed.path, change.timed.runtime, 1)
    assert only(session.run(np.zeros((1, 3, 64, 64), np.float32))).shape[1:] == (4,)  # boxes
    assert session.model.rpn.post_nms_top_n() == 37  # type: ignore[attr-defined]


def test_parts_of_a_detector_nest_and_its_work_is_counted() -> None:
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64
    ).eval()
    found = time_detector(model, 64, batch=2, threads=1)
    parts = {part.name: part for part in found.root.parts}
    for part in _all(found.root):
        if part.parts:
            assert sum(p.seconds for p in part.parts) == pytest.approx(part.seconds, rel=1e-3)
    assert NMS in {part.name for part in parts["rpn"].parts}
    assert {"rpn.head", "rest of rpn"} <= {part.name for part in parts["rpn"].parts}
    assert "backbone.body" in {part.name for part in parts["backbone"].parts}
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.rand(2, 3, 64, 64))
    assert {"Conv2d", "MultiScaleRoIAlign", NMS} <= {p.kind for p in _all(found.root)}
    assert found.root.macs == counter.get_total_flops() // 2
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _all(part: Part) -> list[Part]:
    return [part, *(x for inner in part.parts for x in _all(inner))]


def test_detectors_without_proposals_work_too() -> None:
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    found = time_detector(model, 320, batch=1, threads=1)
    assert {"backbone", "head", "transform"} <= {part.name for part in found.root.parts}


def test_facts_are_read_from_the_machine_and_the_weights(tmp_path: Path, file: Path) -> None:
    proto = onnx.load(file)
    weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weights.flat[:7] = 1e-40
    weights.flat[7] = 0
    proto.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(weights, proto.graph.initializer[0].name)
    )
    onnx.save(proto, file)
    facts = {fact.subject: fact for fact in facts_of(machine(), 1, file)}
    stored = sum(np.prod(t.dims) for t in proto.graph.initializer)
    assert facts["denormal numbers"].found.startswith(f"7 of {stored} weights")
    assert f"torch {torch.__version__}" in facts["torch's libraries"].found
    assert facts["openvino"].advice is None
    assert facts["threads"].found.startswith("1 used, ")
    too_many = {fact.subject: fact for fact in facts_of(machine(), 999, file)}
    assert too_many["threads"].advice and "more than may run" in too_many["threads"].advice


def test_a_change_that_does_not_run_here_is_a_fact(file: Path, tmp_path: Path) -> None:
    base = audit.Timed(file, "onnxruntime")
    broken = audit.Change("in a dream", audit.Timed(tmp_path / "missing.onnx", "onnxruntime"))
    found = audit.audit_of(base, "onnxruntime", [broken], machine(), 1, 1, (), lambda text: None)
    assert found.gains == []
    refused = next(fact for fact in found.facts if fact.subject == "in a dream")
    assert "No model at" in refused.found


def free_size(path: Path) -> Path:
    proto = onnx.load(path)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    for dim, name in zip(dims, ("batch", "channels", "height", "width"), strict=True):
        dim.dim_param = name
    free = path.with_name("free.onnx")
    onnx.save(proto, free)
    return free


def test_free_sizes_are_fixed_in_a_copy_and_nodes_get_names(file: Path, tmp_path: Path) -> None:
    free, folder = free_size(file), tmp_path / "copy"
    folder.mkdir()
    copy = onnx.load(as_deployed(free, 24, 2, folder))
    dims = copy.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims[2:]] == [24, 24] and dims[0].dim_param == "batch"
    names = [node.name for node in copy.graph.node]
    assert len(set(names)) == len(names) and all(names)
    found = profile(str(free), Settings(threads=1, size=24, batch=2, audit=False))
    assert found.macs == 2 * sum(shape.macs for shape in CHAIN) * 24 * 24 // (16 * 16)
    assert (found.height, found.width, found.audit) == (24, 24, None)
    ir = tmp_path / "free.xml"
    ov.save_model(ov.Core().read_model(free), ir)
    found = profile(str(ir), Settings(threads=1, size=24, audit=False))
    assert found.runtime == "openvino" and (found.height, found.width) == (24, 24)
    assert found.macs == sum(shape.macs for shape in CHAIN) * 24 * 24 // (16 * 16)


def test_a_free_number_may_be_written_as_minus_one(file: Path, tmp_path: Path) -> None:
    proto = onnx.load(file)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    for place in (0, 2, 3):
        dims[place].dim_value = -1
    free = tmp_path / "free.onnx"
    onnx.save(proto, free)
    found = profile(str(free), Settings(threads=1, size=24, batch=2, audit=False))
    assert found.macs == 2 * sum(shape.macs for shape in CHAIN) * 24 * 24 // (16 * 16)


def as_ir(path: Path, nodes: list[NodeProto], shape: Dims, weights: dict[str, np.ndarray]) -> Path:
    """An OpenVINO model from `x` to `y`."""
    made = save(path.with_suffix(".onnx"), nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, 2)}, weights)
    ov.save_model(ov.Core().read_model(made), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize(("asked", "said"), [({"size": 32}, "32,32"), ({"batch": 2}, "2,3,16,16")])
def test_openvino_models_refuse_what_they_were_not_made_for(
    asked: dict[str, Any], said: str, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Concat", ["x", "more"], ["c"], axis=1),
             helper.make_node("Flatten", ["c"], ["y"])]  # fmt: skip
    weights = {"more": np.ones((1, 3, 16, 16), np.float32)}
    shape = ("n", 3, *(("h", "w") if "size" in asked else (16, 16)))
    path = as_ir(tmp_path / "m.xml", nodes, shape, weights)
    with pytest.raises(UserError, match=rf"m\.xml cannot take \[.*{said}\] \(.*--size or --batch"):
        profile(str(path), Settings(threads=1, audit=False, **asked))


def test_work_that_depends_on_the_data_is_not_counted(tmp_path: Path) -> None:
    """As many rows as the first convolution finds numbers."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("NonZero", ["c"], ["where"]),
        helper.make_node("Transpose", ["where"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["floats"], to=FLOAT),
        helper.make_node("MatMul", ["floats", "fc.weight"], ["y"]),
    ]
    sizes = {"conv.weight": (8, 3, 3, 3), "fc.weight": (4, 5)}
    weights = {k: rng.standard_normal(size).astype(np.float32) for k, size in sizes.items()}
    path = as_ir(tmp_path / "m.xml", nodes, (1, 3, 16, 16), weights)
    found = profile(str(path), Settings(threads=1, audit=False))
    counted = {x.operation: x.macs for x in found.layers if x.macs != 0}
    assert counted == {"conv 3×3": 3 * 9 * 8 * 14 * 14, "linear": None}


def test_models_that_cannot_be_profiled_are_refused_in_a_sentence(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"not a model")
    (tmp_path / "junk.xml").write_text("<net")
    (tmp_path / "weights.pth").write_bytes(b"x")
    free = free_size(file)
    cases = {
        str(tmp_path / "missing.onnx"): "No model at",
        str(tmp_path / "junk.onnx"): "is no ONNX file",
        str(tmp_path / "junk.xml"): "No file at",
        str(tmp_path / "weights.pth"): "neither an ONNX file",
        str(free): "give --size",
        "resnet50": "torchvision.models:resnet50",
        "os:system": "is refused",
        "torchvision.models:resnet5": "Did you mean resnet5",
        "torchvision.models:list_models": "list_models",
        "torchvision.models.detection:ssd300_vgg16": "cannot be built",
    }
    for model, words in cases.items():
        size = 64 if "detection" in model else None
        with pytest.raises(UserError) as refused:
            profile(model, Settings(threads=1, size=size, audit=False))
        assert words in str(refused.value), model
    with pytest.raises(UserError, match="--size is for models"):
        profile(str(file), Settings(size=99))


def two_inputs(path: Path, picture: Dims) -> Path:
    """Bytes of an image and a vector of integers: one convolution, one product, and their sum."""
    nodes = [
        helper.make_node("Cast", ["picture"], ["floats"], to=FLOAT),
        helper.make_node("Conv", ["floats", "conv.weight"], ["maps"], kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Cast", ["words"], ["numbers"], to=FLOAT),
        helper.make_node("MatMul", ["numbers", "fc.weight"], ["told"]),
        helper.make_node("Add", ["flat", "told"], ["y"]),
    ]
    sizes = {"conv.weight": (8, 3, 3, 3), "fc.weight": (5, 8)}
    weights = {k: np.ones(size, np.float32) for k, size in sizes.items()}
    given: dict[str, tuple[int, Dims]]
    given = {"picture": (TensorProto.UINT8, picture), "words": (TensorProto.INT64, ("n", 5))}
    return save(path, nodes, given, {"y": (FLOAT, 2)}, weights)


@pytest.mark.parametrize("ir", [False, True], ids=["onnx", "xml"])
@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3, 10, 18), None), (("n", 3, "h", "w"), (10, 18))]
)
def test_files_of_any_inputs_are_timed(
    shape: Dims, size: tuple[int, int] | None, ir: bool, tmp_path: Path
) -> None:
    path = two_inputs(tmp_path / "two.onnx", shape)
    if ir:
        path = tmp_path / "two.xml"
        ov.save_model(ov.Core().read_model(tmp_path / "two.onnx"), path, compress_to_fp16=False)
    found = profile(str(path), Settings(threads=1, size=size, batch=2, audit=False))
    assert {x.operation: x.macs for x in found.layers if x.macs} == {
        "conv 3×3": 2 * 8 * 16 * 27 * 8, "linear": 2 * 5 * 8
    }  # fmt: skip
    assert (found.height, found.width) == (None, None)
    said = "picture uint8 (2, 3, 10, 18), 0 to 255; words int64 (2, 5), 0 to 1"
    assert found.fed == said and said in setting(found)
    assert json.loads(found.model_dump_json())["fed"] == said


def test_work_is_not_counted_where_an_input_has_no_batch(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "table"], ["y"])]
    given: dict[str, tuple[int, Dims]] = {"x": (FLOAT, (1, 4)), "table": (FLOAT, (4, 6))}
    path = save(tmp_path / "m.onnx", nodes, given, {"y": (FLOAT, 2)})
    found = profile(str(path), Settings(threads=1, audit=False))
    assert [x.macs for x in found.layers] == [None] and "table float32 (4, 6)" in found.fed


def test_an_oblong_size_for_files_and_builders(file: Path) -> None:
    free = free_size(file)
    work = sum(shape.macs for shape in CHAIN) * 16 * 40 // (16 * 16)
    for model in (str(free), "torchvision.models:shufflenet_v2_x0_5"):
        arguments = ["profile", model, "--no-audit", "--threads", "1", "--json", "--size", "32x40"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert (found["height"], found["width"]) == (32, 40)
        macs = sum(x["macs"] or 0 for x in found["layers"])
        assert model != str(free) or macs == 2 * work
    for wrong, said in (("0", "give pixels, 224"), ("32by40", "height x width")):
        done = CliRunner().invoke(app, ["profile", str(free), "--size", wrong])
        assert said in str(done.exception)
    with pytest.raises(UserError, match="give --size one number"):
        built(DETECTOR, (32, 40), ())


def test_a_fixed_batch_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    onnx.save(chain_model(CHAIN), path)
    with pytest.raises(UserError, match="give --batch 1"):
        profile(str(path), Settings(threads=1, batch=4, audit=False))


def test_the_command_prints_json_and_writes_a_page(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ["profile", file, "--no-audit", "--threads", 1, "--json", "--html", page]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["whole_s"] > 0 and found["audit"] is None and found["between_s"] >= 0
    assert {"float32", "int8"} == found["limits"]["macs_per_s"].keys()
    first = next(x for x in found["layers"] if x["macs"])
    assert first["bound"] in ("compute", "memory") and first["limit_share"] > 0
    assert first["macs_per_s"] == pytest.approx(first["macs"] / first["seconds"])
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_the_command_refuses_with_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "compress", "profile", str(tmp_path / "missing.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"Error: No model at {tmp_path / 'missing.onnx'}.\n"
