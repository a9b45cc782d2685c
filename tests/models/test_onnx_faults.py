"""ONNX files that are no teacher, or answer wrongly in any runtime, and what is said of each."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save as safetensors
from typer.testing import CliRunner

from compress.cli import app
from compress.measure.bench import bench
from compress.measure.evaluate import evaluate_file, predict_files
from compress.models.onnx_teacher import read_onnx
from compress.models.sessions import open_file, open_session
from compress.utils.errors import UserError
from tests.conftest import CLASSES, tiny_recipe
from tests.onnx_graphs import FLOAT, classifier, node, save

Write = Callable[..., Path]
SPEC = {"height": 32, "width": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "classes": list(CLASSES)}


def saved(weights: Any, new: bool = True) -> bytes:
    content = io.BytesIO()
    torch.save(weights, content, _use_new_zipfile_serialization=new)
    return content.getvalue()


def in_training(path: Path, outside: bool = False) -> Path:
    """Three numbers of each image, from a batch norm that measures the batch."""
    ones = dict.fromkeys("abcd", np.ones(3, np.float32))
    nodes = [
        node("BatchNormalization", ["i", *"abcd"], ["n", "m", "v"], "norm", training_mode=1),
        node("GlobalAveragePool", ["n"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    save(path, nodes, {"i": (FLOAT, ("n", 3, 32, 32))}, {"y": (FLOAT, 2)}, ones)
    if outside:
        onnx.save(
            onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0
        )
    return path


@pytest.mark.parametrize("outside", [False, True])
def test_a_deployed_file_in_training_mode_is_refused(
    outside: bool, shapes: Path, tmp_path: Path
) -> None:
    path, spec = in_training(tmp_path / "m.onnx", outside), tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    said = r"m\.onnx was exported in training mode \(BatchNormalization 'norm'.*model\.eval\(\)"
    with pytest.raises(UserError, match=said):
        evaluate_file(path, shapes, threads=1, spec_file=spec)
    with pytest.raises(UserError, match=said):
        list(predict_files(path, sorted(shapes.glob("*/*.png"))[:1], 1, spec))
    with pytest.raises(UserError, match=said):
        bench([path], [], [1], 1, 2, 5)
    profiled = CliRunner().invoke(app, ["profile", str(path)])
    assert isinstance(profiled.exception, UserError)
    assert "was exported in training mode" in str(profiled.exception)
    with pytest.raises(UserError, match=said):
        open_session(path, "openvino", 1)
    assert open_session(classifier(tmp_path / "other.onnx"), "onnxruntime", 1).spec is None


def test_float64_is_named_where_there_is_no_kernel_for_it(tmp_path: Path) -> None:
    double = TensorProto.DOUBLE
    nodes = [node("Conv", ["x", "k"], ["y"])]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": (double, (1, 3, 8, 8))}, {"y": (double, 4)},
        {"k": np.ones((3, 3, 3, 3))},
    )  # fmt: skip
    said = r"m\.onnx computes in float64, .*no kernel for Conv: convert it to float32"
    with pytest.raises(UserError, match=said):
        open_file(path, "onnxruntime", 1)
    read_onnx(path)  # a teacher is converted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: copy or download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not the file itself"),
        (b"\x89HDF\r\n\x1a\n", r"is an HDF5 file \(Keras\): export that model to ONNX"),
        (saved({"a": torch.zeros(2)}), r"is a zip archive \(of torch\.save.*to ONNX"),
        (saved({"a": torch.zeros(2)}, new=False), "is a pickle .*to ONNX"),
        (safetensors({"a": torch.zeros(2)}), "is a safetensors file, .*to ONNX"),
    ],
)
def test_other_files_are_called_what_they_are(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"teacher\.onnx: .*m\.onnx {said}"):
        read_onnx(path)
    with pytest.raises(UserError, match=rf"m\.onnx {said}"):
        open_file(path, "onnxruntime", 1)


def test_weights_that_are_not_beside_the_file_are_named(tmp_path: Path) -> None:
    model = onnx.load(classifier(tmp_path / "whole.onnx"))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    open_file(path, "onnxruntime", 1)
    read_onnx(path)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(path, alone)
    said = r"m\.onnx keeps its weights in m\.data, which is not beside it: copy both\.$"
    with pytest.raises(UserError, match=said):
        read_onnx(alone / "m.onnx")
    with pytest.raises(UserError, match=said):
        open_file(alone / "m.onnx", "onnxruntime", 1)


def test_an_operator_of_somebodys_own_is_named(tmp_path: Path) -> None:
    tail = [node("Twist", ["x"], ["y"], "last", domain="theirs")]
    path = classifier(tmp_path / "m.onnx", tail)
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"m\.onnx has an operator .*Twist of 'theirs'.*'last'"):
        read_onnx(path)
    with pytest.raises(UserError, match=r"m\.onnx cannot be loaded.*Twist"):
        open_file(path, "onnxruntime", 1)
    model.functions.append(
        helper.make_function(
            "theirs", "Twist", ["a"], ["b"], [node("Neg", ["a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )  # fmt: skip
    onnx.save(model, path)
    read_onnx(path)  # the file says itself what it is
    open_file(path, "onnxruntime", 1)


def test_a_check_asks_an_onnx_teacher_once(
    write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(shapes)
    recipe["teacher"] = {"onnx": "m.onnx", "image_size": 32}
    recipe["candidates"] = {"int8": [{"quantize": {"images": 8}}]}
    written = write_recipe(recipe)
    fitting = classifier(tmp_path / "m.onnx")
    done = CliRunner().invoke(app, ["check", str(written)])
    assert done.exit_code == 0, done.exception
    assert "an ONNX file of 4 operations\n" in done.stdout
    model = onnx.load(fitting)
    (last,) = [n for n in model.graph.node if n.output[0] == "y"]
    last.CopyFrom(node("Concat", ["x", "x"], ["y"], axis=1))
    onnx.save(model, fitting)
    refused = CliRunner().invoke(app, ["check", str(written)])
    assert isinstance(refused.exception, UserError)
    assert "outputs of (6,)" in str(refused.exception)
    assert str(refused.exception).count("teacher.onnx") == 1
