"""`compress bench` on real files."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from compress.cli import app
from compress.measure.bench import bench
from compress.report.bench import _short
from compress.utils.errors import UserError


def convolutions(path, layers):
    """A network of equal 3 x 3 convolutions."""
    rng = np.random.default_rng(0)
    nodes, constants, tensor = [], [], "images"
    for i in range(layers):
        inputs = 3 if i == 0 else 32
        weight = rng.standard_normal((32, inputs, 3, 3)).astype(np.float32) / 20
        constants.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [tensor, f"w{i}"], [f"x{i}"], pads=[1, 1, 1, 1]))
        tensor = f"x{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 48, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 32])],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "a").mkdir()
    return [
        convolutions(folder / "net.onnx", 12),
        convolutions(folder / "a" / "net.onnx", 2),
    ]


def test_less_work_is_faster_and_every_sample_is_kept(files):
    rows = bench(files, [], [1, 4], threads=1, processes=2, rounds=6)
    assert [(x.file, x.latency.batch) for x in rows] == [
        (str(file), batch) for batch in (1, 4) for file in files
    ]
    for slow, fast in (rows[:2], rows[2:]):
        assert slow.speedup is None
        assert fast.speedup.low <= fast.speedup.value <= fast.speedup.high
        assert fast.speedup.value > 2  # six times less work
        medians = [np.median(process) for process in fast.latency.samples_s]
        assert fast.latency.median_s == pytest.approx(np.median(medians))
    assert [len(x) for x in rows[0].latency.samples_s] == [6, 6]
    assert [len(x) for x in rows[2].latency.samples_s] == [5, 5]


def test_speedups_stay_within_a_runtime(files):
    rows = bench(files, ["onnxruntime", "openvino"], [1], threads=1, processes=2, rounds=5)
    assert [x.runtime for x in rows] == ["onnxruntime", "openvino"] * 2
    assert [x.speedup is None for x in rows] == [True, True, False, False]


def test_the_table_and_the_json_say_the_same(files):
    options = ["--processes", "2", "--rounds", "5", "--threads", "1"]
    arguments = ["bench", *map(str, files), *options]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "a/net.onnx" in shown.stdout and "onnxruntime" in shown.stdout
    assert "than the first file in the same runtime" in " ".join(shown.stdout.split())
    rows = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert rows[0]["speedup"] is None
    assert rows[1]["speedup"]["value"] > 1
    assert len(rows[1]["latency"]["samples_s"]) == 2


def test_what_cannot_be_timed_is_said(files, tmp_path):
    with pytest.raises(UserError, match=r"No model at .*nothing\.onnx"):
        bench([files[0], tmp_path / "nothing.onnx"], [], [1], 1, 2, 5)
    with pytest.raises(UserError, match="named twice"):
        bench([files[0], files[0]], [], [1], 1, 2, 5)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"broken\.onnx cannot be loaded by onnxruntime"):
        bench([files[0], tmp_path / "broken.onnx"], [], [1], 1, 2, 5)
    refused = CliRunner().invoke(app, ["bench", str(files[0]), "--runtime", "tensorrt"])
    assert isinstance(refused.exception, UserError)
    assert "No runtime 'tensorrt'" in str(refused.exception)


def test_names_are_as_short_as_they_can_be():
    assert _short(["x/a/m.onnx", "x/b/m.onnx", "x/n.onnx"]) == {
        "x/a/m.onnx": "a/m.onnx",
        "x/b/m.onnx": "b/m.onnx",
        "x/n.onnx": "n.onnx",
    }
