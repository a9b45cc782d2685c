"""What models are timed on, whatever they take, and how images are fed to files of other types."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper
from typer.testing import CliRunner

from compress.cli import app
from compress.data.input_spec import InputSpec, load_image, normalise
from compress.export.artifact import spec_of
from compress.measure.bench import bench
from compress.measure.deployable import height_and_width, with_size
from compress.measure.evaluate import predict_files
from compress.measure.inputs import described, random_inputs, shapes_of
from compress.models.sessions import open_file, open_session
from compress.runtimes import Entry
from compress.utils.errors import UserError
from tests.onnx_graphs import FLOAT, Graph, classifier, graphs, logits, save
from tests.outputs import only

RUNTIMES = ["onnxruntime", "openvino"]
QUICK = ["--processes", "2", "--rounds", "5", "--threads", "1"]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def several(path: Path) -> Path:
    """Bytes with the channels last, a mask, numbers of boxes and a threshold."""
    node = helper.make_node
    nodes = [
        node("Cast", ["pixels"], ["p"], to=FLOAT),
        node("ReduceMean", ["p"], ["m"], axes=[1, 2], keepdims=0),
        node("Cast", ["boxes"], ["b"], to=FLOAT),
        node("Cast", ["half"], ["h"], to=FLOAT),
        node("Cast", ["mask"], ["k"], to=FLOAT),
        node("Sum", ["m", "b", "h", "k"], ["y"]),
    ]
    inputs: dict[str, tuple[int, Any]] = {
        "pixels": (TensorProto.UINT8, ("n", "h", "w", 3)),
        "boxes": (TensorProto.INT64, (1, 3)),
        "half": (TensorProto.FLOAT16, ()),
        "mask": (TensorProto.BOOL, ("n", 1)),
    }
    return save(path, nodes, inputs, {"y": (FLOAT, 2)})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_input_gets_numbers_of_its_type(runtime: str, tmp_path: Path) -> None:
    path = with_size(several(tmp_path / "m.onnx"), (8, 16), tmp_path / "fixed")
    file = open_file(path, runtime, 1)
    arrays = random_inputs(file.inputs, 2, rng())
    by_name = {entry.name: x for entry, x in zip(file.inputs, arrays, strict=True)}
    assert {k: (x.dtype.name, x.shape) for k, x in by_name.items()} == {
        "pixels": ("uint8", (2, 8, 16, 3)),
        "boxes": ("int64", (1, 3)),
        "half": ("float16", ()),
        "mask": ("bool", (2, 1)),
    }
    assert by_name["pixels"].max() > 200 and set(by_name["boxes"].ravel().tolist()) <= {0, 1}
    expected = by_name["pixels"].mean((1, 2)) + by_name["boxes"]
    expected = expected + by_name["half"].astype(np.float32) + by_name["mask"]
    (got,) = file.call(arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_what_is_fed_is_said() -> None:
    inputs = [Entry("a", "float32", (None, None, 8, 8)), Entry("b", "uint8", (2, 4))]
    assert described(inputs, 2) == "a float32 (2, 3, 8, 8), normal; b uint8 (2, 4), 0 to 255"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Entry("a", "float32", (None, 3, None, 8)), r"a \(\?, 3, \?, 8\) has free.*--size"),
        (Entry("a", "float32", (None, None, None, 3)), "--size"),
        (Entry("a", "float32", (None, None)), "--size"),
        (Entry("a", "float32", (8, 3, 8, 8)), "takes 8 images a call: give --batch 8"),
        (Entry("a", "float32", (8, 32, 4)), "takes 8 images a call: give --batch 8"),
        (Entry("a", "string", (1, 3)), "of type string"),
        (Entry("a", "float8e4m3fn", (1, 3)), "of type float8e4m3fn"),
    ],
)
def test_what_cannot_be_fed_is_said(entry: Entry, said: str) -> None:
    with pytest.raises(UserError, match=said):
        random_inputs([entry], 1, rng())


@pytest.mark.parametrize("shape", [(32, 48, 3), (3, 32, 48), (1, 32, 48), (32, 48, 1)])
def test_one_image_without_a_batch_is_one(shape: tuple[int, ...]) -> None:
    image = Entry("a", "uint8", shape)
    assert shapes_of([image], 1) == [shape]
    with pytest.raises(UserError, match="takes 1 image a call: give --batch 1"):
        shapes_of([image], 32)
    # Beside another input it may be anything: the states of a layer, say.
    with pytest.raises(UserError, match="takes 16 images a call"):
        shapes_of([Entry("x", "float32", (16, 8)), Entry("h", "float32", (3, 16, 32))], 1)


def test_a_file_of_one_image_without_a_batch_is_timed_as_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[0, 1], keepdims=1),
    ]
    inputs: dict[str, tuple[int, Any]] = {"x": (TensorProto.UINT8, (32, 32, 3))}
    (row,) = bench([save(tmp_path / "m.onnx", nodes, inputs, {"y": (FLOAT, 3)})], [], [1], 1, 2, 5)
    assert row.fed == "x uint8 (32, 32, 3), 0 to 255"
    assert row.latency.images_per_s == pytest.approx(1 / row.latency.median_s)


def test_sizes_as_people_write_them() -> None:
    assert height_and_width("224") == (224, 224)
    assert height_and_width(" 480X640") == height_and_width("480×640") == (480, 640)
    for text in ("", "0", "-3", "3x", "1x2x3", "big", "1.5", "9999999"):
        with pytest.raises(UserError, match="--size"):
            height_and_width(text)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bench_times_any_file_and_says_what_it_was_fed(runtime: str, tmp_path: Path) -> None:
    path = several(tmp_path / "m.onnx")
    arguments = ["bench", str(path), "--runtime", runtime, *QUICK]
    done = CliRunner().invoke(app, [*arguments, "--size", "8x16", "--json"])
    assert done.exit_code == 0, done.output
    assert "m.onnx was fed random numbers: pixels uint8 (1, 8, 16, 3), 0 to 255" in done.stderr
    (row,) = json.loads(done.stdout)
    assert row["latency"]["median_s"] > 0 and "half float16 ()" in row["fed"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UserError)
    assert "--size" in str(refused.exception)


def test_a_size_is_for_files_that_leave_it_free(tmp_path: Path) -> None:
    free = classifier(tmp_path / "free.onnx", shape=("n", 3, "h", "w"))
    fixed = classifier(tmp_path / "fixed.onnx", shape=("n", 3, 16, 16))
    ir = tmp_path / "free.xml"
    ov.save_model(ov.Core().read_model(free), ir)
    rows = bench([free, fixed, ir], [], [2], 1, 2, 5, size=(8, 12))
    assert [row.fed.removesuffix(", normal").split(" float32 ")[1] for row in rows] == [
        "(2, 3, 8, 12)",
        "(2, 3, 16, 16)",
        "(2, 3, 8, 12)",
    ]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_are_fed_in_half_precision_where_a_file_takes_it(
    runtime: str, tmp_path: Path
) -> None:
    path = classifier(tmp_path / "m.onnx", of=TensorProto.FLOAT16)
    images = rng().standard_normal((2, 3, 32, 32), dtype=np.float32)
    answers = only(open_session(path, runtime, 1).run(images))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, logits(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_session_of_a_free_size_is_told_one(runtime: str, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", shape=("n", 3, "h", "w"))
    session = open_session(path, runtime, 1, size=(8, 12))
    assert session.image_size == (8, 12)
    images = rng().standard_normal((2, 3, 8, 12), dtype=np.float32)
    np.testing.assert_allclose(only(session.run(images)), logits(images), rtol=1e-3, atol=1e-3)


def test_a_size_that_the_network_was_not_made_for_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "place"], ["y"])]
    inputs: dict[str, tuple[int, Any]] = {"x": (FLOAT, ("n", 3, "h", "w"))}
    place = {"place": np.ones((1, 3, 16, 16), np.float32)}
    made = save(tmp_path / "m.onnx", nodes, inputs, {"y": (FLOAT, 4)}, place)
    ir = tmp_path / "m.xml"
    ov.save_model(ov.Core().read_model(made), ir)
    assert with_size(ir, (16, 16), tmp_path / "fitting") == tmp_path / "fitting" / "m.xml"
    with pytest.raises(UserError, match=r"m\.xml cannot take \[\?,3,32,32\] \(.*give the --size"):
        with_size(ir, (32, 32), tmp_path / "other")


def cast(path: Path, of: int, shape: tuple[int | str, ...]) -> Path:
    """A file that gives its input's mean over height and width where the channels are last."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[1, 2], keepdims=0),
    ]
    return save(path, nodes, {"x": (of, shape)}, {"y": (FLOAT, 2)})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bytes_are_fed_as_bytes_and_channels_last(runtime: str, tmp_path: Path) -> None:
    path = cast(tmp_path / "m.onnx", TensorProto.UINT8, ("n", 8, 12, 3))
    session = open_session(path, runtime, 1)
    assert (session.channels, session.image_size) == (3, (8, 12))
    pixels = rng().integers(0, 256, (2, 8, 12, 3), np.uint8)
    spec = InputSpec.model_validate(
        {"height": 8, "width": 12, "dtype": "uint8", "layout": "nhwc", "classes": ("a", "b", "c")}
    )
    answers = only(session.run(normalise(pixels, spec)))
    np.testing.assert_allclose(answers, pixels.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_other_integers_are_no_images(runtime: str, tmp_path: Path) -> None:
    path = cast(tmp_path / "m.onnx", TensorProto.INT32, ("n", 8, 12, 3))
    with pytest.raises(UserError, match=r"takes int32; expected float32.* or bytes \(uint8\)"):
        open_session(path, runtime, 1)


def test_a_spec_file_may_leave_out_what_a_file_of_bytes_does_itself(
    shapes: Path, tmp_path: Path
) -> None:
    path = cast(tmp_path / "m.onnx", TensorProto.UINT8, ("n", "h", "w", 3))
    written = tmp_path / "spec.json"
    said = {"height": 8, "width": 12, "classes": ["circle", "square", "triangle"]}
    written.write_text(json.dumps(said))
    spec = spec_of(path, written)
    assert (spec.dtype, spec.layout, spec.mean) == ("uint8", "nhwc", (0, 0, 0))
    images = sorted(shapes.glob("*/*.png"))[:3]
    answers = list(predict_files(path, images, 1, written))
    expected = [load_image(image, spec).mean((0, 1)).argmax() for image in images]
    assert [said["classes"].index(answer[0][0]) for answer in answers] == expected
    for wrong, why in (
        ({"mean": [0.5] * 3, "std": [0.5] * 3}, "leave out mean and std"),
        ({"layout": "nchw"}, "takes uint8 in nhwc, but .* says uint8 in nchw"),
        ({"channels": "grey"}, r"takes images of \(3, 8, 12\)"),
    ):
        written.write_text(json.dumps(said | wrong))
        with pytest.raises(UserError, match=why):
            spec_of(path, written)
    written.write_text("{")
    with pytest.raises(UserError, match=r"spec\.json is no JSON"):
        spec_of(path, written)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_file_runs_or_is_refused_in_a_sentence(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = with_size(graph(Path(folder) / "m.onnx"), (32, 32), Path(folder))
        for runtime in RUNTIMES:
            try:
                file = open_file(path, runtime, 1)
                outputs = file.call(random_inputs(file.inputs, 1, rng()))
            except UserError as error:
                assert str(error)
            else:
                assert outputs and all(isinstance(x, np.ndarray) for x in outputs)
            try:
                open_session(path, runtime, 1)
            except UserError as error:
                assert str(error)
