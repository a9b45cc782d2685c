"""Settings with new names: the old ones are taken with a note, and no stage's key changes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import save_file

from compress.cascade.recipe import load_cascade_recipe
from compress.cli.schema import any_schema
from compress.measure.machine import machine
from compress.methods.quantize.settings import Settings as Quantize
from compress.recipe.load import load_recipe
from compress.recipe.schema import TeacherSettings
from compress.recipe.yaml_file import read_recipe_file
from compress.utils.errors import UserError
from compress.workflow.plan import make_plan
from tests.conftest import tiny_recipe

Write = Callable[..., Path]

OLD = """\
name: x
data: {path: .}
teacher:
  builder: teachers.vgg:vgg16_bn
  weights: w.safetensors
  only: classifier
  train: {epochs: 1}
candidates:
  int8:
    - quantize: {max_accuracy_drop: [0.01, 0.02]}
  portable:
    - quantize: [{reduce_range: false}, {ranges: mse}]
  again:
    - from: trained
    - quantize: {}
  trained:
    - distill:
        student: students.shufflenet:shufflenet_v2_x0_5
        student_settings: {only: 3, max_accuracy_drop: 4}
        image_size: 32
        train: {epochs: 1}
budget: {speedup: 2, max_accuracy_drop: 0.1}
"""
PIPELINE = """\
name: p
data: {path: .}
stages: {name: {recipe: name.yaml}}
ways: [[name]]
"""


def test_old_names_are_taken_with_a_line_each(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(OLD)
    recipe = load_recipe(path, assignments=["candidates.again.1.quantize.max_accuracy_drop=0.5"])
    assert recipe.teacher.train_only == "classifier"
    found = {name: steps[-1].quantize for name, steps in recipe.candidates.items()}
    assert found["int8-max_accuracy_drop-0.02"].max_drop_vs_float == 0.02
    assert not found["portable-quantize-1"].portable and found["portable-quantize-2"].portable
    assert found["again"].max_drop_vs_float == 0.5
    out, err = capsys.readouterr()
    assert not out
    at = "candidates"
    assert err.splitlines() == [
        f"{path}:6: teacher.only is an old name: write train_only",
        f"{path}:10: {at}.int8.0.quantize.max_accuracy_drop is an old name: write "
        "max_drop_vs_float",
        f"{path}:12: {at}.portable.0.quantize.0.reduce_range is an old name: write portable",
        f"--set: {at}.again.1.quantize.max_accuracy_drop is an old name: write max_drop_vs_float",
    ]


def test_what_is_wrong_with_them_is_told_where_it_was_written(write_recipe: Write) -> None:
    text = OLD.replace("0.02]", "2]").replace("only: classifier", "only: 3")
    with pytest.raises(UserError) as caught:
        load_recipe(write_recipe(text.replace("reduce_range: false", "reduce_rage: false")))
    assert [line.rpartition("/")[2] for line in str(caught.value).splitlines()[1:]] == [
        "tiny.yaml:6: teacher.only: input should be a valid string, not 3",
        "tiny.yaml:10: candidates.int8.0.quantize.max_accuracy_drop: input should be less than or "
        "equal to 1, not 2",
        "tiny.yaml:12: candidates.portable.0.quantize.0.reduce_rage: unknown key",
    ]
    with pytest.raises(UserError, match="only is the old name of train_only: give train_only alo"):
        load_recipe(write_recipe(OLD), assignments=["teacher.train_only=fc"])


def test_ways_of_a_pipeline_are_paths_now(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(OLD.replace("only: classifier", ""), "name.yaml")
    path = write_recipe(PIPELINE, "pipeline.yaml")
    assert load_cascade_recipe(path)[0].paths == [["name"]]
    assert f"{path}:4: ways is an old name: write paths" in capsys.readouterr().err.splitlines()
    with pytest.raises(UserError, match=r"pipeline.yaml:4: ways.0.0: paths names 'nobody'"):
        load_cascade_recipe(write_recipe(PIPELINE.replace("[[name]]", "[[nobody]]"), path.name))


def test_editors_take_old_names(write_recipe: Write) -> None:
    said = Draft202012Validator(any_schema())
    for text in (OLD, PIPELINE):
        assert not list(said.iter_errors(read_recipe_file(write_recipe(text)).data))


def test_in_keys_names_stay(write_recipe: Write, shapes: Path, tmp_path: Path) -> None:
    teacher = TeacherSettings(onnx="x.onnx")
    assert teacher.in_key(exclude={"onnx"}).keys() >= {"only", "builder"}
    assert "train_only" not in teacher.in_key()
    assert Quantize(max_drop_vs_float=0.3).in_key()["max_accuracy_drop"] == 0.3
    assert "reduce_range" not in Quantize().in_key()
    assert Quantize.from_key(Quantize(max_drop_vs_float=0.3).in_key()).max_drop_vs_float == 0.3

    weights = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, weights)
    recipe: dict[str, Any] = tiny_recipe(shapes)
    recipe["teacher"] |= {"weights": str(weights), "train_only": "classifier"}
    recipe["candidates"] = {"int8": [{"quantize": {"max_drop_vs_float": 0.25}}]}
    plan = make_plan(load_recipe(write_recipe(recipe)), machine(), 1)
    by_kind = {stage.kind: stage for stage in plan.stages}
    assert by_kind["teacher"].settings["only"] == "classifier"
    for kind in ("decide", "step"):
        assert by_kind[kind].settings["settings"]["max_accuracy_drop"] == 0.25
    # As they were before these settings had other names.
    described = by_kind["step"].settings["settings"]
    assert digest(described) == "7573057e1858c588"
    of_teacher = dict(by_kind["teacher"].settings)
    del of_teacher["code"], of_teacher["weights"]
    assert digest(of_teacher) == "0670ca6b9131a69d"


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
