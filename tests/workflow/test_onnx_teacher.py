"""An ONNX file as the teacher: the forms that files come in, and the road from one to a report."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given as for_any
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from torch import nn
from torchvision.models import mobilenet_v2
from typer.testing import CliRunner

import compress.methods.quantize.layer_search
from compress.cli import app
from compress.data.input_spec import InputSpec, normalise
from compress.export.artifact import spec_of
from compress.export.int8 import quantize_file, ranges_of
from compress.measure.evaluate import evaluate_file
from compress.measure.file_shapes import file_layer_shapes
from compress.measure.module_shapes import layer_shapes
from compress.metrics.probabilities import LEAST
from compress.models.onnx_teacher import fingerprint, like_ours, plain, read_onnx, taken_by
from compress.recipe.load import load_recipe
from compress.report.write import reports_in
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe
from compress.workflow.stages.onnx_teacher import alone, check_same, write_like_ours
from tests.conftest import CLASSES, tiny_recipe
from tests.onnx_graphs import (
    FLOAT,
    SIGMOIDS,
    TAILS,
    WEIGHT,
    Graph,
    classifier,
    graphs,
    logits,
    save,
    softmax,
)
from tests.outputs import only

Write = Callable[..., Path]
SPEC = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3, classes=CLASSES)


class Net(nn.Module):
    """Convolutions with batch norms, one of them strided and one depthwise, and a flattening."""

    def __init__(self, probabilities: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 24, (1, 3), padding=(0, 1)), nn.ReLU(), nn.MaxPool2d(4),
        )  # fmt: skip
        self.classifier = nn.Linear(24 * 16, len(CLASSES))
        self.probabilities = probabilities

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.classifier(self.features(x).flatten(1))
        return x.softmax(1) if self.probabilities else x


def network(probabilities: bool = False) -> Net:
    torch.manual_seed(0)
    net = Net(probabilities)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


def plainly(net: nn.Module, path: Path) -> Path:
    """As torch exports when told nothing: one image, weights in a second file."""
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), path, dynamo=True, verbose=False)
    assert path.with_name(f"{path.name}.data").is_file()
    return path


def old(net: nn.Module, path: Path) -> Path:
    """As years ago: an old opset, batch norms as they are, a batch of one."""
    torch.onnx.export(
        net, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=11,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
    )  # fmt: skip
    assert any(n.op_type == "BatchNormalization" for n in onnx.load(path).graph.node)
    return path


def ours(given: Path, out: Path) -> Path:
    onnx.save(like_ours(plain(read_onnx(given), SPEC), SPEC), out)
    return out


def real(count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    colours = rng.standard_normal((count, 3, 1, 1), dtype=np.float32)
    return colours + rng.standard_normal((count, 3, 32, 32), dtype=np.float32)


def taken(given: Path, spec: InputSpec = SPEC) -> tuple[OnnxSession, list[str]]:
    """The file as the stage takes it, and what is said of it."""
    made = given.with_name("made.onnx")
    notes = write_like_ours(read_onnx(given), made, real(), spec)
    return OnnxSession(made, threads=1), notes


@pytest.mark.parametrize("export", [plainly, old])
@pytest.mark.parametrize("probabilities", [False, True])
def test_any_export_becomes_ours(
    export: Callable[[nn.Module, Path], Path], probabilities: bool, tmp_path: Path
) -> None:
    net = network(probabilities)
    given = export(net, tmp_path / "given.onnx")
    session, notes = taken(given)
    assert [bool(re.search("of a softmax: their logarithm", n)) for n in notes] == (
        [True] if probabilities else []
    )
    graph = onnx.load(tmp_path / "made.onnx").graph
    assert not {n.op_type for n in graph.node} & {"BatchNormalization", "Softmax"}
    assert len({n.name for n in graph.node}) == len(graph.node)
    assert session.batch_size is None
    assert session.spec is not None and InputSpec.model_validate_json(session.spec) == SPEC
    images = torch.randn(5, 3, 32, 32)
    net.probabilities = False
    expected = net(images).detach().numpy()
    np.testing.assert_allclose(only(session.run(images.numpy())), expected, atol=1e-5)


def test_shapes_of_a_file_are_those_of_the_network(tmp_path: Path) -> None:
    for number, net in enumerate((network(), mobilenet_v2(num_classes=3, width_mult=0.35).eval())):
        made = ours(plainly(net, tmp_path / f"{number}.onnx"), tmp_path / "ours.onnx")
        shapes = layer_shapes(net, torch.zeros(1, 3, 32, 32))
        assert list(file_layer_shapes(made).values()) == list(shapes.values())


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    given = plainly(network(), tmp_path / "given.onnx")
    images = real(3)
    with pytest.raises(UserError, match=r"takes images of \(32, 32\).*image_size is 64"):
        taken(given, SPEC.at(64))
    with pytest.raises(UserError, match=r"but the data asks for \(2,\)"):
        taken(given, SPEC.model_copy(update={"classes": CLASSES[:2]}))
    grey = SPEC.model_copy(update={"channels": "grey", "mean": (0.5,), "std": (0.25,)})
    with pytest.raises(UserError, match="of 3 channels, and is to get 1: give three numbers in"):
        plain(read_onnx(given), grey)
    other = network()
    nn.init.zeros_(other.classifier.weight)
    expected = alone(plainly(other, tmp_path / "other.onnx"), images, SPEC)
    with pytest.raises(UserError, match="be asked for 3 images at once"):
        check_same(expected, ours(given, tmp_path / "ours.onnx"), images, SPEC, None)

    class Stuck(Net):  # an operation that holds the batch it was exported with
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([super().forward(x)] * 2).reshape(1, 2, 3).sum(1)

    stuck = plainly(Stuck().eval(), tmp_path / "stuck.onnx")
    with pytest.raises(UserError, match=r"be asked for 4 images at once.*free batch dimension"):
        taken(stuck)

    (tmp_path / "text.onnx").write_text("not a model")
    for name, said in (("text", "damaged or no ONNX file"), ("nothing", "no file at")):
        with pytest.raises(UserError, match=said):
            read_onnx(tmp_path / f"{name}.onnx")


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    given = plainly(network(), folder / "given.onnx")
    model = onnx.load(given, load_external_data=False)
    (folder / "given.onnx.data").rename(tmp_path / "given.onnx.data")
    for weight in model.graph.initializer:
        for entry in weight.external_data:
            if entry.key == "location":
                entry.value = "../given.onnx.data"
    onnx.save(model, given)
    with pytest.raises(UserError, match="damaged or no ONNX file"):
        read_onnx(given)


def test_a_file_is_known_by_its_weights_wherever_they_lie(tmp_path: Path) -> None:
    given = plainly(network(), tmp_path / "given.onnx")
    first = fingerprint(read_onnx(given))
    onnx.save(read_onnx(given), tmp_path / "whole.onnx")
    assert fingerprint(read_onnx(tmp_path / "whole.onnx")) == first
    data = tmp_path / "given.onnx.data"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    assert fingerprint(read_onnx(given)) != first


def recipe(shapes: Path, given: Path) -> dict[str, Any]:
    changed = tiny_recipe(shapes)
    changed["teacher"] = {"onnx": given.name, "image_size": 32}
    distil = changed["candidates"]["shufflenet_v2_x0_5"][0]["distill"]
    distil |= {"control": False, "train": {"epochs": 1, "batch_size": 8}}
    changed["candidates"]["int8"] = [{"quantize": {"images": 8, "max_drop_vs_float": 1.0}}]
    return changed


def test_from_a_file_to_a_report(
    write_recipe: Write, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compress.methods.quantize.layer_search, "PROCESSES", 1)
    monkeypatch.setattr(compress.methods.quantize.layer_search, "ROUNDS", 5)
    given = plainly(network(), tmp_path / "given.onnx")
    loaded = load_recipe(write_recipe(recipe(shapes, given)))
    results, _ = run_recipe(
        loaded, tmp_path, Progress(Console(quiet=True)), "compress run", report=reports_in(tmp_path)
    )

    rows = {row.candidate: row for row in results}
    assert set(rows) == {"teacher", "shufflenet_v2_x0_5", "int8"}
    assert {row.artifact.runtime for row in results} == {"onnxruntime"}
    assert all(row.speedup_as_served is None for row in results)
    assert rows["int8"].lineage == ["ONNX file", "quantize int8"]
    decided = {d.layer: d for d in rows["int8"].steps[0].decisions}
    assert len(decided) == 4 and all(d.before_s is not None for d in decided.values())
    assert rows["shufflenet_v2_x0_5"].lineage[0] == "ONNX file"
    assert rows["shufflenet_v2_x0_5"].training is not None
    file = tmp_path / rows["teacher"].artifact.path
    accuracy = evaluate_file(file, shapes).accuracy
    assert accuracy.images == 36
    made = OnnxSession(file, threads=1)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    expected = network()(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(only(made.run(images)), expected, atol=1e-5)
    assert (tmp_path / "reports" / "tiny" / "report.html").is_file()


def test_steps_that_need_the_networks_code_are_refused(
    write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    changed = recipe(shapes, tmp_path / "given.onnx")
    train = {"epochs": 1}
    changed["candidates"] |= {
        "pruned": [{"prune": {"speedup": 2}}],
        "split": [{"factorize": {"ratio": 0.5}}, {"quantize": {}}],
        "trained": [{"quantize": {"train": {"train": train}}}],
    }
    changed["teacher"]["weights"] = "w.safetensors"
    with pytest.raises(UserError, match="an onnx file is taken as it is: remove weights"):
        load_recipe(write_recipe(changed))
    del changed["teacher"]["weights"]
    with pytest.raises(UserError) as caught:
        load_recipe(write_recipe(changed))
    text = str(caught.value)
    assert "3 faults" in text
    for at in ("pruned.0.prune", "split.0.factorize", "trained.0.quantize"):
        assert f"candidates.{at}: changes the teacher's network" in text
    changed["candidates"] = {"int8": [{"quantize": {}}]}
    changed["data"]["points"] = {"tip": ["x", "y"]}
    looks = {"student": "teachers.vgg:vgg16_bn", "image_size": 32}
    looks["loss"] = {"name": "points_and_attention"}
    changed["candidates"]["looks"] = [{"distill": looks | {"train": train}}]
    with pytest.raises(UserError, match="loss: points_and_attention compares maps within"):
        load_recipe(write_recipe(changed))
    changed["teacher"]["builder"] = "torchvision.models:resnet18"
    with pytest.raises(UserError, match="give either builder"):
        load_recipe(write_recipe(changed))


# The forms that answers come in


@pytest.mark.parametrize("tail", TAILS)
def test_a_softmax_of_any_kind_becomes_logits(tail: str, tmp_path: Path) -> None:
    given = classifier(tmp_path / "given.onnx", TAILS[tail])
    session, notes = taken(given)
    assert notes == ["its answers are the probabilities of a softmax: their logarithm is taken"]
    made = only(session.run(real()))
    np.testing.assert_allclose(softmax(made), softmax(logits(real())), rtol=1e-4, atol=1e-7)
    assert made.min() < -1  # no probabilities any more


@pytest.mark.parametrize("tail", SIGMOIDS)
def test_a_sigmoid_of_any_kind_becomes_logits(tail: str, tmp_path: Path) -> None:
    session, notes = taken(classifier(tmp_path / "given.onnx", SIGMOIDS[tail]))
    assert notes == ["its answers are the probabilities of a sigmoid: their logit is taken"]
    np.testing.assert_allclose(only(session.run(real())), logits(real()), rtol=1e-2, atol=1e-3)


def test_certain_answers_have_a_floor(tmp_path: Path) -> None:
    tail = [
        helper.make_node("Mul", ["x", "x"], ["x2"]),
        helper.make_node("Mul", ["x2", "x2"], ["x4"]),
        helper.make_node("Softmax", ["x4"], ["p"], axis=1),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    made = only(taken(classifier(tmp_path / "given.onnx", tail))[0].run(real()))
    assert np.isfinite(made).all() and made.min() == pytest.approx(np.log(LEAST), rel=1e-3)


def test_logits_between_0_and_1_stay_and_it_is_said(tmp_path: Path) -> None:
    weights = [helper.make_node("HardSigmoid", ["x"], ["y"], alpha=1e-4, beta=0.4)]
    session, notes = taken(classifier(tmp_path / "given.onnx", weights))
    assert len(notes) == 1 and "taken for logits" in notes[0]
    expected = 0.4 + 1e-4 * logits(real())
    np.testing.assert_allclose(only(session.run(real())), expected, atol=1e-5)


# What files are refused for


def test_a_file_that_is_int8_already_is_refused(tmp_path: Path) -> None:
    given = classifier(tmp_path / "given.onnx")
    quantize_file(given, tmp_path / "int8.onnx", ranges_of(given, real(8), "minmax"))
    with pytest.raises(UserError, match=r"int8\.onnx is int8 already \(.*the float file"):
        read_onnx(tmp_path / "int8.onnx")


def test_a_check_refuses_it_too(write_recipe: Write, shapes: Path, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    shape = ("n", 3, 32, 32)
    save(
        tmp_path / "given.onnx", nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, 4)},
        {"scale": np.array(0.1, np.float32)},
    )  # fmt: skip
    written = write_recipe(recipe(shapes, tmp_path / "given.onnx"))
    refused = CliRunner().invoke(app, ["check", str(written)])
    assert isinstance(refused.exception, UserError)
    assert "is int8 already (QuantizeLinear" in str(refused.exception)


def test_files_in_training_mode_are_named_for_what_they_are(tmp_path: Path) -> None:
    node = helper.make_node
    ones = dict.fromkeys("abcd", np.ones(3, np.float32))
    norm = node("BatchNormalization", ["i", *"abcd"], ["n", "m", "v"], "norm", training_mode=1)
    drop = node("Dropout", ["i", "ratio", "on"], ["n"], "drop")
    flat = node("Flatten", ["n"], ["y"])
    inputs = {"i": (FLOAT, ("n", 3, 8, 8))}
    of = {"y": (FLOAT, 2)}
    drops = {"ratio": np.array(0.5, np.float32), "on": np.array(True)}
    for first, weights, said in (
        (norm, ones, "BatchNormalization 'norm'"), (drop, drops, "Dropout 'drop'"),
    ):  # fmt: skip
        path = save(tmp_path / "given.onnx", [first, flat], inputs, of, weights)
        with pytest.raises(UserError, match=f"training mode .{said}.*model.eval"):
            read_onnx(path)
    for harmless in ({"on": np.array(False)}, {"ratio": np.array(0, np.float32)}):
        read_onnx(save(tmp_path / "given.onnx", [drop, flat], inputs, of, drops | harmless))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"a": (FLOAT, ("n", 3, 8, 8)), "b": (FLOAT, ("n", 3, 8, 8))}, "takes a, b: .*alone"),
        ({"a": (FLOAT, ("n", 8, 8, 4))}, "takes 8 channels; an image has 3, or 1 in grey"),
        ({"a": (TensorProto.INT32, ("n", 3, 8, 8))}, r"takes int32: .*or of bytes \(uint8\)"),
        ({"a": (FLOAT, ("n", 4, 8, 8))}, "takes 4 channels"),
        ({"a": (FLOAT, ("n", 3))}, r"takes a \(\?, 3\)"),
    ],
)
def test_other_inputs_than_images_are_refused(
    inputs: dict[str, tuple[int, Any]], said: str, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Cast", [name], [f"{name}_f"], to=FLOAT) for name in inputs] + [
        helper.make_node("Sum", [f"{name}_f" for name in inputs], ["y"])
    ]
    with pytest.raises(UserError, match=said):
        read_onnx(save(tmp_path / "given.onnx", nodes, inputs, {"y": (FLOAT, 4)}))


# What files are taken with


@pytest.mark.parametrize("opset", [11, 17])
def test_weights_among_the_inputs_are_no_inputs(opset: int, tmp_path: Path) -> None:
    given = classifier(tmp_path / "given.onnx", listed=True, opset=opset)
    session, notes = taken(given)
    assert notes == [] and session.input == "pixel_values"
    np.testing.assert_allclose(only(session.run(real())), logits(real()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, "c", "s", "s"), ("n", 3, 32, "w")])
def test_a_free_size_is_the_recipes(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    session, _ = taken(classifier(tmp_path / "given.onnx", shape=shape))
    assert session.image_size == (32, 32) and session.batch_size is None
    np.testing.assert_allclose(only(session.run(real())), logits(real()), rtol=1e-4, atol=1e-4)


def itself(path: Path, of: int, shape: tuple[int | str, ...], last: bool) -> Path:
    """A file that takes bytes or floats, in either layout, and normalises as SPEC says."""
    node = helper.make_node
    nodes = [
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3]),
        node("Div", ["t", "n"], ["s"]),
        node("Sub", ["s", "m"], ["c"]),
        node("Div", ["c", "d"], ["p"]),
        node("GlobalAveragePool", ["p" if of == TensorProto.UINT8 else "t"], ["a"]),
        node("Flatten", ["a"], ["l"]),
        node("MatMul", ["l", "w"], ["y"]),
    ]  # fmt: skip
    numbers = {"n": 255, "m": 0.5, "d": 0.25}
    weights = {"w": WEIGHT} | {k: np.array(x, np.float32) for k, x in numbers.items()}
    return save(path, nodes, {"i": (of, shape)}, {"y": (FLOAT, 2)}, weights)


@pytest.mark.parametrize("of", [FLOAT, TensorProto.UINT8])
@pytest.mark.parametrize(
    "shape", [("n", 32, 32, 3), (1, 32, 32, 3), ("n", "h", "w", 3), ("n", 3, 32, 32)]
)
def test_a_file_gets_bytes_and_layout_as_it_takes_them(
    of: int, shape: tuple[int | str, ...], tmp_path: Path
) -> None:
    given = itself(tmp_path / "given.onnx", of, shape, last=shape[3] == 3)
    taken_as = taken_by(read_onnx(given))
    spec = SPEC.fed_as(taken_as.kind, taken_as.layout)
    assert spec.layout == ("nhwc" if shape[3] == 3 else "nchw")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    made = tmp_path / "made.onnx"
    assert write_like_ours(read_onnx(given), made, normalise(pixels, spec), spec) == []
    assert onnx.load(made).graph.input[0].type.tensor_type.elem_type == of
    expected = logits(normalise(pixels, SPEC))
    answers = only(OnnxSession(made, threads=1).run(normalise(pixels, spec)))
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)
    assert InputSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec_of(made) == spec


@pytest.mark.parametrize("count", [1, 3])
def test_free_channels_are_those_that_the_weights_read(count: int, tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Mul", ["i", "two"], ["m"]),
        node("Conv", ["m", "k"], ["c"]),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    weights = {"k": np.ones((3, count, 3, 3), np.float32), "two": np.array(2, np.float32)}
    shape = ("n", "channels", "h", "w")
    given = save(tmp_path / "given.onnx", nodes, {"i": (FLOAT, shape)}, {"y": (FLOAT, 2)}, weights)
    assert taken_by(read_onnx(given)).channels == count
    grey = SPEC.model_copy(update={"channels": "grey", "mean": (0.5,), "std": (0.25,)})
    fitting, other = (grey, SPEC) if count == 1 else (SPEC, grey)
    made = plain(read_onnx(given), fitting)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims[1:]] == [count, 32, 32]
    with pytest.raises(UserError, match=f"of {count} channels, and is to get {other.shape[0]}"):
        plain(read_onnx(given), other)


def test_a_free_number_may_be_written_as_minus_one(tmp_path: Path) -> None:
    shapes = {"all": np.array([-1]), "back": np.array([-1, 3])}
    tail = [
        *(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(x))
          for name, x in shapes.items()),
        helper.make_node("Reshape", ["x", "all"], ["row"]),
        helper.make_node("Reshape", ["row", "back"], ["y"]),
    ]  # fmt: skip
    given = classifier(tmp_path / "given.onnx", tail, shape=(-1, 3, -1, -1))
    found = taken_by(read_onnx(given))
    assert (found.batch, found.channels, found.height, found.width) == (None, 3, None, None)
    session, notes = taken(given)
    assert notes == [] and session.batch_size is None
    np.testing.assert_allclose(only(session.run(real())), logits(real()), rtol=1e-4, atol=1e-4)


def test_a_flattening_may_name_the_batch_as_integers(tmp_path: Path) -> None:
    tail = [
        helper.make_node("Constant", [], ["row"], value_ints=[1, -1]),
        helper.make_node("Reshape", ["x", "row"], ["y"]),
    ]
    session, _ = taken(classifier(tmp_path / "given.onnx", tail, shape=(1, 3, 32, 32)))
    assert session.batch_size is None
    np.testing.assert_allclose(only(session.run(real())), logits(real()), rtol=1e-4, atol=1e-4)


def test_mean_and_std_of_bytes_are_the_files(
    write_recipe: Write, shapes: Path, tmp_path: Path
) -> None:
    given = itself(tmp_path / "given.onnx", TensorProto.UINT8, ("n", 32, 32, 3), last=True)
    changed = recipe(shapes, given)
    checked = CliRunner().invoke(app, ["check", str(write_recipe(changed))])
    assert checked.exit_code == 0, checked.exception
    assert "it takes bytes (uint8): mean and std are its own" in checked.output
    changed["teacher"] |= {"mean": [0.5] * 3, "std": [0.25] * 3}
    refused = CliRunner().invoke(app, ["check", str(write_recipe(changed))])
    assert isinstance(refused.exception, UserError)
    assert "normalises them itself: remove mean and std" in str(refused.exception)


@pytest.mark.parametrize("of", [TensorProto.FLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("tail", [[], TAILS["softmax"], TAILS["then flatten"]])
def test_other_floats_become_float32(of: int, tail: list[Any], tmp_path: Path) -> None:
    session, notes = taken(classifier(tmp_path / "given.onnx", tail, of=of))
    assert (["half precision" in note for note in notes].count(True) == 1) == (
        of == TensorProto.FLOAT16
    )
    assert session.session.get_inputs()[0].type == "tensor(float)"
    made = only(session.run(real()))
    np.testing.assert_allclose(softmax(made), softmax(logits(real())), atol=2e-3)


def test_half_precision_inside_becomes_float32_too(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("GlobalAveragePool", ["i"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Cast", ["f"], ["h"], to=TensorProto.FLOAT16),
        node("MatMul", ["h", "w"], ["x"]),
        node("Cast", ["x"], ["y"], to=FLOAT),
    ]
    path = save(
        tmp_path / "given.onnx", nodes, {"i": (FLOAT, ("n", 3, 32, 32))}, {"y": (FLOAT, 2)},
        {"w": WEIGHT.astype(np.float16)},
    )  # fmt: skip
    session, notes = taken(path)
    assert notes == ["in half precision; its float32 twin is used"]
    expected = real().mean((2, 3)) @ WEIGHT.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(only(session.run(real())), expected, rtol=1e-4, atol=1e-5)


def test_an_output_is_found_by_its_name(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("GlobalAveragePool", ["i"], ["features"]),
        node("Flatten", ["features"], ["f"]),
        node("MatMul", ["f", "w"], ["logits"]),
        node("Neg", ["f"], ["dead"]),
    ]
    path = save(
        tmp_path / "given.onnx", nodes, {"i": (FLOAT, ("n", 3, 32, 32))},
        {"features": (FLOAT, 4), "logits": (FLOAT, 2)}, {"w": WEIGHT},
    )  # fmt: skip
    made = taken(path)[0].run(real())
    assert list(made) == ["logits"]
    np.testing.assert_allclose(made["logits"], logits(real()), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@for_any(graphs())
def test_any_file_is_taken_or_refused_in_a_sentence(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = graph(Path(folder) / "given.onnx")
        try:
            session, _ = taken(path)
        except UserError as error:
            assert str(error)
        else:
            assert only(session.run(real())).shape == (12, 3)
