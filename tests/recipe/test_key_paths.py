"""A fault's key path is one that stands in the recipe, or what is missing there."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.recipe.schema_paths import given_path
from compress.recipe.yaml_file import KeyPath
from compress.utils.errors import UserError

STUDENT = {"student": "students.shufflenet:shufflenet_v2_x0_5", "image_size": 32}
TRAIN = {"epochs": [1, 2], "augmentation": {"shift": 0.1}}
RECIPE: dict[str, Any] = {
    "name": "x",
    "data": {"path": ".", "fit": "crop"},
    "teacher": {
        "builder": "teachers.vgg:vgg16_bn",
        "only": "classifier",
        "weights": "w.safetensors",
        "train": {"epochs": 1, "progressive": []},
    },
    "candidates": {
        "int8": [{"from": "student"}, {"quantize": {"max_accuracy_drop": [0.1, 0.2]}}],
        "student": [
            {
                "distill": {
                    **STUDENT,
                    "loss": [{"name": "kd", "temperature": 4.0}, {"name": "dkd", "beta": [1, 2]}],
                    "train": TRAIN,
                }
            }
        ],
        "pruned": [
            {"prune": {"ratio": 0.5}},
            {"distill": {"loss": {"name": "dist"}, "train": TRAIN}},
        ],
    },
    "measure": {"runtimes": ["onnxruntime"], "rounds": 5},
    "budget": {"speedup": 2, "max_accuracy_drop": 0.1, "max_bytes": "5MB"},
}
WRONG = st.sampled_from(
    [None, -1, "word", "", [], {}, [[]], {"kd": 1}, {"name": "kd", "kd": 2}, [{"name": "dkd"}], 1e9]
)
KEYS = st.sampled_from(["kd", "dkd", "name", "nmae", "str", "only", "train_only", "from", "loss"])


def paths(value: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    yield at
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(child, (*at, key))


def at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data[key]
    return data


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """The recipe with some values replaced, keys added and keys removed."""
    data = deepcopy(RECIPE)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in paths(data) if path]))
        parent = at(data, path[:-1])
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "replace":
            parent[path[-1]] = deepcopy(draw(WRONG))
        elif how == "remove":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw(KEYS)] = deepcopy(draw(WRONG))
    return data


def reported(data: dict[str, Any]) -> list[str]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "r.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        try:
            load_recipe(file)
        except UserError as error:
            lines = str(error).replace(f"{file}:", "").splitlines()[1:]
            return [line.split(": ")[1] for line in lines if line.startswith("  ")]
    return []


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(spoilt())
def test_every_key_path_is_there_or_its_parent_is(data: dict[str, Any]) -> None:
    there = {".".join(map(str, path)) for path in paths(data)}
    for key in reported(data):
        assert key == "recipe" or key in there or key.rpartition(".")[0] in there, key


@pytest.mark.parametrize(
    ("loss", "written"),
    [
        ({"name": "kd", "temperature": -1}, "loss.temperature"),
        ({"name": "dkd", "tempreature": 1}, "loss.tempreature"),
        ({"name": "kd", "kd": 1}, "loss.kd"),
        ({"name": "kd", "dkd": {"beta": 1}}, "loss.dkd"),
        ({"name": "points_and_attention", "weight": 0}, "loss.weight"),
        ({"name": "nobody"}, "loss"),
        ({"temperature": 1}, "loss"),
    ],
)
def test_members_of_a_union_are_in_no_key_path(loss: dict[str, Any], written: str) -> None:
    data = deepcopy(RECIPE)
    data["candidates"]["pruned"][1]["distill"]["loss"] = loss
    assert reported(data) == [f"candidates.pruned.1.distill.{written}"]
    data["candidates"] = {
        "a": [
            {"prune": {"ratio": 0.5}},
            {"quantize": {"train": {"loss": loss, "train": {"epochs": 1}}}},
        ]
    }
    assert reported(data) == [f"candidates.a.1.quantize.train.{written}"]


def test_labels_of_plain_unions_are_in_no_key_path_either() -> None:
    data = deepcopy(RECIPE)
    for wrong in ([1], {"str": 1}):
        data["budget"]["max_bytes"] = wrong
        assert reported(data) == ["budget.max_bytes", "budget.max_bytes"], wrong


def test_what_is_missing_ends_the_path() -> None:
    location = ("candidates", "pruned", 1, "distill", "train", "epochs")
    data = deepcopy(RECIPE)
    assert given_path(Recipe, data, location) == location
    data["candidates"]["pruned"][1]["distill"]["train"] = {}
    assert given_path(Recipe, data, location) == location
    assert given_path(Recipe, data, ("teacher", "train_only")) == ("teacher", "only")
    assert given_path(Recipe, data, ("candidates", "a b", "[key]")) == ("candidates",)
