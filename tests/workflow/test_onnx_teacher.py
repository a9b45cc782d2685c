"""An ONNX file as the teacher: the forms that files come in, and the road from one to a report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console
from torch import nn
from torchvision.models import mobilenet_v2

import compress.methods.quantize.layer_search
from compress.data.input_spec import InputSpec
from compress.measure.evaluate import evaluate_file
from compress.measure.file_shapes import file_layer_shapes
from compress.measure.module_shapes import layer_shapes
from compress.models.onnx_teacher import fingerprint, gives_probabilities, like_ours, read_onnx
from compress.recipe.load import load_recipe
from compress.report.write import reports_in
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe
from compress.workflow.stages.onnx_teacher import check_same
from tests.conftest import CLASSES, tiny_recipe
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
    onnx.save(like_ours(read_onnx(given), SPEC), out)
    return out


@pytest.mark.parametrize("export", [plainly, old])
@pytest.mark.parametrize("probabilities", [False, True])
def test_any_export_becomes_ours(
    export: Callable[[nn.Module, Path], Path], probabilities: bool, tmp_path: Path
) -> None:
    net = network(probabilities)
    given = export(net, tmp_path / "given.onnx")
    assert gives_probabilities(read_onnx(given)) == probabilities
    made = ours(given, tmp_path / "ours.onnx")

    graph = onnx.load(made).graph
    assert not {n.op_type for n in graph.node} & {"BatchNormalization", "Softmax"}
    assert len({n.name for n in graph.node}) == len(graph.node)
    session = OnnxSession(made, threads=1)
    assert session.batch_size is None
    assert session.spec is not None and InputSpec.model_validate_json(session.spec) == SPEC
    images = torch.randn(5, 3, 32, 32)
    net.probabilities = False
    expected = net(images).detach().numpy()
    np.testing.assert_allclose(only(session.run(images.numpy())), expected, atol=1e-5)
    check_same(given, made, images.numpy(), SPEC, probabilities)


def test_shapes_of_a_file_are_those_of_the_network(tmp_path: Path) -> None:
    for number, net in enumerate((network(), mobilenet_v2(num_classes=3, width_mult=0.35).eval())):
        made = ours(plainly(net, tmp_path / f"{number}.onnx"), tmp_path / "ours.onnx")
        shapes = layer_shapes(net, torch.zeros(1, 3, 32, 32))
        assert list(file_layer_shapes(made).values()) == list(shapes.values())


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    given = plainly(network(), tmp_path / "given.onnx")
    made = ours(given, tmp_path / "ours.onnx")
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
    with pytest.raises(UserError, match=r"takes images of \(32, 32\).*image_size is 64"):
        check_same(given, made, images, SPEC.at(64), False)
    grey = SPEC.model_copy(update={"channels": "grey", "mean": (0.5,), "std": (0.25,)})
    with pytest.raises(UserError, match="of 3 channels, and is to get 1: give three numbers in"):
        check_same(given, made, images[:, :1], grey, False)
    two = SPEC.model_copy(update={"classes": CLASSES[:2]})
    with pytest.raises(UserError, match="but the data asks for 2"):
        check_same(given, made, images, two, False)
    other = network()
    nn.init.zeros_(other.classifier.weight)
    plainly(other, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="be asked for 3 images at once"):
        check_same(tmp_path / "other.onnx", made, images, SPEC, False)

    class Stuck(Net):  # an operation that holds the batch it was exported with
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([super().forward(x)] * 2).reshape(1, 2, 3).sum(1)

    stuck = plainly(Stuck().eval(), tmp_path / "stuck.onnx")
    with pytest.raises(UserError, match=r"be asked for 3 images at once.*free batch dimension"):
        check_same(stuck, ours(stuck, tmp_path / "freed.onnx"), images, SPEC, False)

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
    changed["teacher"]["builder"] = "torchvision.models:resnet18"
    with pytest.raises(UserError, match="give either builder"):
        load_recipe(write_recipe(changed))
