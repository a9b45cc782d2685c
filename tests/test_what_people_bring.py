"""Recipes, tables and weights files of all kinds end in an answer or a sentence, never otherwise.

A few hundred of each are tried; the environment variable EXAMPLES asks for more.
"""

import csv
import io
import json
import os
import struct
import tempfile
from argparse import Namespace
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save, save_file
from torch import nn

from compress.cli.check import check
from compress.data.image_cache import drop_unreadable
from compress.data.input_spec import preprocess
from compress.data.keypoints import PointColumns
from compress.data.layouts import check_classes, read_folder
from compress.data.split import draw_split
from compress.models.checkpoint import load_into, read_checkpoint
from compress.models.weight_names import fitted
from compress.recipe.schema import TeacherSettings
from compress.utils.errors import UserError
from tests.conftest import class_folders
from tests.input_networks import small

tried = settings(max_examples=int(os.environ.get("EXAMPLES", "150")), deadline=None)
likely = [True] * 6 + [False]


def answered(ask: Callable[[], Any]) -> None:
    """Ask; what is refused must be refused in words."""
    try:
        ask()
    except UserError as error:
        assert str(error).strip()
        assert "Traceback" not in str(error)


# Tables

NAMES = ["a.png", "b.png", "c.png", "d.png", "é.png", "e f.png", "g,h.png", 'i"j.png', "k.PNG"]
HEADERS = [
    "image",
    "Image",
    "file_name",
    "path",
    "label",
    "Label",
    "class",
    "id",
    "split",
    "x",
    "y",
]
CELLS = [
    "",
    " ",
    "cat",
    "dog",
    "café",
    "cafe\u0301",
    "1",
    "0",
    "10",
    "2",
    "1,5",
    "1.5",
    "nan",
    "inf",
]
CELLS += ["train", "val", "test", "-3", "1e999", '"', "=1+1", "\x00", "\u200b", "x" * 300]
ODD_NAMES = ["a", "imgs/a.png", "imgs\\b.png", "../a.png", "/a.png", "z.png", "", "e\u0301.png"]
odd_cells = st.one_of(st.sampled_from(CELLS), st.sampled_from(ODD_NAMES), st.text(max_size=4))
TABLES = ["train.csv", "labels.csv", "val.csv", "test.csv", "split.csv", "x.csv"]


def mostly(right: list[str], odd: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Nine times of ten what is right."""
    return st.one_of(*[st.sampled_from(right)] * 9, odd)


@st.composite
def tables(draw: st.DrawFn, odd: bool) -> bytes:
    """A table of images: some columns, some rows, parted and encoded somehow.

    Args:
        odd: whether anything may be wrong in it, not only its form be another.
    """
    width = draw(st.integers(2, 4))
    header = ["image", "label", "x", "y"][:width]
    name = mostly(NAMES, st.sampled_from(ODD_NAMES)) if odd else st.sampled_from(NAMES)
    label, number = mostly(["cat", "dog"], odd_cells), mostly(["1", "2.5"], odd_cells)
    if not odd:
        label, number = st.sampled_from(["cat", "dog", "café", "10"]), st.sampled_from(["1", "2.5"])
    by = None if odd else (lambda row: row[0])
    row = st.tuples(name, label, number, number)
    lines = [list(x[:width]) for x in draw(st.lists(row, min_size=4, max_size=9, unique_by=by))]
    if odd and draw(st.booleans()):
        header = draw(st.lists(st.sampled_from(HEADERS), min_size=width, max_size=width))
    if odd and draw(st.booleans()):
        lines[0] = lines[0][: draw(st.integers(0, 4))]
    if not odd or draw(st.booleans()):
        lines = [header, *lines]
    order = draw(st.permutations(range(width)))
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=draw(st.sampled_from([",", ",", ";", "\t", *" |" * odd])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerows([[x[i] for i in order] if len(x) == width else x for x in lines])
    encodings = ["utf-8", "utf-8-sig", "utf-16", *["latin-1", "cp1252"] * odd]
    content = text.getvalue().encode(draw(st.sampled_from(encodings)), "replace")
    return content[: draw(st.sampled_from([None, len(content) // 2] if odd else [None]))]


@st.composite
def folders(draw: st.DrawFn) -> Callable[[Path], Path]:
    """What writes images and tables into a folder, and gives what is to be read."""
    odd = draw(st.sampled_from([False, False, True]))
    files = draw(st.lists(st.sampled_from(NAMES), unique=True)) if odd else NAMES
    where = draw(st.sampled_from(["", "imgs", "images", *["train", "cat"] * odd]))
    called = st.sampled_from(TABLES if odd else TABLES[:2])
    named = draw(st.dictionaries(called, tables(odd), min_size=1, max_size=3 if odd else 1))
    broken = odd and draw(st.booleans())
    asked = draw(st.sampled_from(["", "", *named, *["imgs", "nothing"] * (len(named) > 2)]))

    def make(root: Path) -> Path:
        (root / where).mkdir(exist_ok=True)
        for i, name in enumerate(files):
            Image.new(("RGB", "L", "P")[i % 3], (6 + i, 7), i).save(root / where / name, "png")
        if files and broken:
            (root / where / files[0]).write_bytes(b"no image")
        for name, content in named.items():
            (root / name).write_bytes(content)
        return root / asked

    return make


@tried
@given(
    make=folders(), columns=st.sampled_from([*[(None, None)] * 5, ("image", None), ("x", "label")])
)
def test_any_table(make: Callable[[Path], Path], columns: tuple[str | None, str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder))

        def read() -> None:
            data = read_folder(path, *columns)
            check_classes(data)
            data = draw_split(drop_unreadable(data, lambda done, total: None), 0.2, 0)
            assert data.describe() and len(data.labels) == len(data.images)
            data.save(Path(folder))
            type(data).load(Path(folder), data.root)

        answered(read)
        points = PointColumns.of(["p"], ["x", "y"])
        answered(lambda: read_folder(path, columns[0], None, points))


# Weights files

NET = small(3, 3, 2)
PREFIXES = ["", "module.", "model.", "_orig_mod.", "net.0.", "backbone.", "."]
WRAPPERS = ["state_dict", "model", "net", "ema", "state_dict_ema", "weights", 0, None, ("a", 1)]
BESIDE = [1, "x", None, Namespace(lr=0.1, path=Path("x")), np.float64(1), np.zeros(2), {1, 2}, [{}]]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]
DTYPES += [torch.complex64, torch.float8_e4m3fn]


@st.composite
def weights(draw: st.DrawFn) -> tuple[str, bytes]:
    """Suffix and content of a file of weights, near to right."""
    tensors: dict[Any, Any] = {k: v.clone() for k, v in NET.state_dict().items()}
    if not draw(st.sampled_from(likely)):
        tensors |= {draw(st.sampled_from([*tensors, "aux1.weight", ""])): torch.zeros(3)}
    if not draw(st.sampled_from(likely)):
        tensors = {k: v.to(draw(st.sampled_from(DTYPES))) for k, v in tensors.items()}
    prefix = draw(st.sampled_from(PREFIXES))
    tensors = {prefix + k: v for k, v in tensors.items()}
    if draw(st.booleans()):
        metadata = {"classes": draw(st.sampled_from(['["a"]', "[", "null", "é", '{"a": 1}']))}
        return draw(st.sampled_from([".safetensors", ".pt"])), save(tensors, metadata)
    saved: Any = tensors
    for _ in range(draw(st.integers(0, 2))):
        saved = {draw(st.sampled_from(WRAPPERS)): saved, "beside": draw(st.sampled_from(BESIDE))}
        saved = [saved] if not draw(st.sampled_from(likely)) else saved
    content = io.BytesIO()
    torch.save(saved, content, _use_new_zipfile_serialization=draw(st.sampled_from(likely)))
    return draw(
        st.sampled_from([".pt", ".pth", ".ckpt", ".bin", ".safetensors"])
    ), content.getvalue()


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """The same, cut short, with bytes changed, or with a header of nonsense; or mere bytes."""
    suffix, content = draw(weights())
    how = draw(st.sampled_from(["whole", "whole", "cut", "changed", "header", "bytes"]))
    if how == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif how == "changed":
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + draw(st.binary(max_size=8)) + content[at + 4 :]
    elif how == "header":
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        entry |= draw(
            st.dictionaries(st.sampled_from([*entry, "x"]), st.sampled_from(ODD), max_size=2)
        )
        text = json.dumps(draw(st.sampled_from([{"a": entry}, {"__metadata__": entry}, [], {}])))
        length = draw(st.sampled_from([len(text), len(text) + 9, 2**40, 2**63]))
        content = struct.pack("<Q", length) + text.encode() + bytes(8)
    elif how == "bytes":
        content = draw(st.binary(max_size=64))
    return suffix, content


ODD = [None, -1, 0, 2**70, "F8", "", "é", [], [0], [0, 0], [-1, 4], [2**62, 2**62], {}, 1.5, True]


@tried
@given(file=damaged())
def test_any_weights(file: tuple[str, bytes]) -> None:
    suffix, content = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"w{suffix}"
        path.write_bytes(content)

        def read() -> None:
            net = deepcopy(NET)
            state_dicts, _ = read_checkpoint(path)
            tensors, notes = fitted(state_dicts, net)
            assert all(notes)
            load_into(net, tensors, path)
            assert all(isinstance(x, nn.Parameter) for x in net.parameters())

        answered(read)


# Recipes

SMALL, TRAIN = "tests.input_networks:small", {"epochs": 1}
# Key paths of a recipe, and what people write there.
VALUES: dict[tuple[str, ...], list[Any]] = {
    ("name",): ["a b", "../x", 1, ""],
    ("seed",): [-1, 2**70, "0"],
    ("data", "path"): ["~/nowhere", "$HOME/x", "https://example.org/a.zip", "", ".", 3, "a\x00b"],
    ("data", "label_column"): ["label", "", 1],
    ("data", "validation_fraction"): [0, 1, 0.5, 20, "20%"],
    ("data", "fit"): ["stretch", "letterbox", "squash"],
    ("data", "box"): [["x", "y", "w", "h"], ["x"], "x"],
    ("data", "points"): [{"p": ["x", "y"]}, {"p": ["x"]}, {"top_left": ["x", "y"]}, {}],
    ("teacher", "image_size"): [32, [32, 48], [32], "32", 31.5, 4, 0, -1, 9999, [[32, 48]], None],
    ("teacher", "channels"): ["bgr", "grey", "gray", "RGB", 1],
    ("teacher", "mean"): [[0.5], [0.4, 0.4, 0.4], 0.5, [123.7, 116.3, 103.5], [], [0.1] * 4, ["a"]],
    ("teacher", "std"): [[0.5], [0.2, 0.2, 0.2], 0.5, [58.4, 57.1, 57.4], [0, 0, 0], [1e-9] * 3],
    ("teacher", "weights"): ["w.pt", "~/w.pt", "$HOME/w.pt", "s3://b/w", "torchvision:X", "w.onnx"],
    ("teacher", "onnx"): ["w.pt", "none.onnx", "~"],
    ("teacher", "layout"): ["nhwc"],
    ("teacher", "dtype"): ["uint8"],
    ("teacher", "builder"): [f"{SMALL}er", "os:system", "x", SMALL, 1, "timm:nothing"],
    ("teacher", "settings"): [{"channels": 1}, {"width": 8}, {"width": 0}, {"depth": 1}, []],
    ("teacher", "train"): [{"epochs": 1}, {"epochs": 0}, {}, {"lr": "1e-3"}, None],
    ("candidates",): [{}, [], {"teacher": [{"quantize": {}}]}, {"a": []}, {"a": [{"squash": {}}]}],
    ("candidates", "q"): [
        [{"quantize": {"images": 0}}],
        [{"quantize": {}}, {"prune": {"ratio": 0.5}}],
        [{"prune": {"ratio": [0.2, 0.5]}}],
        [{"prune": {"speedup": 0.5}}],
        [{"factorize": {"ratio": 0.5}}],
        [{"distill": {"student": SMALL, "image_size": [[32, 32], [32, 48]], "train": TRAIN}}],
        [{"distill": {"student": SMALL, "image_size": 32}}],
        [{"from": "q"}],
        [{"from": "nothing"}, {"quantize": {}}],
        [{"quantize": {}, "prune": {}}],
        [[]],
        None,
    ],
    ("measure", "threads"): [0, 1, "all"],
    ("measure", "runtimes"): [["openvino"], ["onnx"], [], ["onnxruntime"] * 2, "openvino"],
    ("budget", "speedup"): ["2x", 2, 0],
    ("budget", "max_accuracy_drop"): [2, 0.02, "2%"],
    ("budget", "max_bytes"): ["5 MB", "5 parsecs", -1],
    ("pictures",): [1],
}  # fmt: skip
changes = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda at: st.tuples(st.just(at), st.one_of(st.sampled_from(VALUES[at]), st.none()))
    ),
    max_size=3,
)
LINES = ["a: [", "- x", "\t a: 1", "name: x", "? y", "a: *b", "&a b: *a", "!!python/object:os.x {}"]


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and weights that fit."""
    folder = tmp_path_factory.mktemp("brought")
    class_folders(folder / "images")
    save_file(small(3).state_dict(), folder / "w.safetensors")
    return folder


def changed(asked: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "data": {"path": "images"},
        "teacher": {"builder": SMALL, "weights": "w.safetensors", "image_size": 32},
        "candidates": {"q": [{"quantize": {}}]},
        "measure": {"threads": 1},
    }
    for (*sections, key), value in asked:
        place = recipe
        for name in sections:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[key] = value
    return recipe


@tried
@given(asked=changes, line=st.sampled_from(["", "", "", *LINES]), file=damaged())
def test_any_recipe(
    brought: Path, asked: list[tuple[tuple[str, ...], Any]], line: str, file: tuple[str, bytes]
) -> None:
    recipe = changed(asked)
    (brought / "w.pt").write_bytes(file[1])
    path = brought / "r.yaml"
    path.write_text(yaml.safe_dump(recipe) + line, "utf-8")
    answered(lambda: check(path, allow_builders=["tests"]))


numbers = st.one_of(st.floats(0, 1), st.sampled_from([0, 1, -0.5, 124, 1e-9, "0.5", None]))
inputs = st.fixed_dictionaries(
    {"onnx": st.just("x.onnx")},
    optional={
        "image_size": st.one_of(st.integers(0, 64), st.lists(st.integers(0, 64), max_size=3)),
        "channels": st.sampled_from(["rgb", "bgr", "grey", "gray"]),
        "mean": st.lists(numbers, max_size=4),
        "std": st.lists(numbers, max_size=4),
    },
)


@tried
@given(said=inputs, fit=st.sampled_from(["crop", "stretch", "letterbox"]))
def test_any_input_that_is_taken_can_be_prepared(brought: Path, said: Any, fit: Any) -> None:
    try:
        taken = TeacherSettings.model_validate(said)
    except ValueError as error:  # pydantic's, which a recipe's faults are told from
        assert str(error)
        return
    spec = taken.input_spec(fit, classes=("a", "b"))
    [image, *_] = (brought / "images").rglob("*.png")
    prepared = preprocess([image], spec)
    assert prepared.shape == (1, *spec.shape) and np.isfinite(prepared).all()
    again = type(spec).model_validate_json(spec.model_dump_json())
    assert again == spec and spec.of_network == spec
