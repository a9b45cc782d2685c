"""What people bring that is nearly right is told what it is, and what to do."""

import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.methods.prune.channel_groups import PrunableNetwork
from compress.models.checkpoint import load_into, load_tensors, read_checkpoint
from compress.models.class_names import check_class_names
from compress.models.sessions import infer
from compress.models.trial import check_forward
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError
from compress.workflow.stages.onnx_teacher import alone
from tests.onnx_graphs import classifier

node = helper.make_node
ONE_OUTPUT = r"one output, the probability \(or logit\).*torch\.cat\(\[-z, z\], 1\) / 2"


def spec_of(classes: str) -> InputSpec:
    return InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3, classes=tuple(classes))


def constant(name: str, *numbers: int) -> NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(np.array(numbers)))


# What networks answer

SHAPES: dict[str, tuple[str, list[NodeProto], str]] = {
    "one output": ("ab", [constant("i", 0), node("Gather", ["x", "i"], ["y"], axis=1)], ONE_OUTPUT),
    "class number": ("abc", [node("ArgMax", ["x"], ["k"], axis=1, keepdims=0),
                             node("Cast", ["k"], ["y"], to=1)], "a class number: .*logits"),
    "further axes": ("abc", [constant("axes", 2, 3), node("Unsqueeze", ["x", "axes"], ["y"])],
                     r"further axes of 1: flatten it \(torch\.flatten"),
    "one class more": ("ab", [], "one class more than the data, a background class"),
}  # fmt: skip


@pytest.mark.parametrize(("classes", "tail", "said"), SHAPES.values(), ids=SHAPES.keys())
def test_files_of_another_shape(
    classes: str, tail: list[NodeProto], said: str, tmp_path: Path
) -> None:
    file, spec = classifier(tmp_path / "given.onnx", tail), spec_of(classes)
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    with pytest.raises(UserError, match=f"but the data asks for .*{said}"):
        alone(file, images, spec)
    with pytest.raises(UserError, match=f"its input spec names . classes: .*{said}"):
        infer(OnnxSession(file, threads=1), images, spec)


def test_a_squeeze_that_drops_the_only_image(tmp_path: Path) -> None:
    file = classifier(tmp_path / "given.onnx", [node("Squeeze", ["x"], ["y"])])
    images = np.zeros((1, 3, 32, 32), np.float32)
    with pytest.raises(UserError, match=r"drops the axis of images .*name the axis in squeeze"):
        infer(OnnxSession(file, threads=1), images, spec_of("abc"))


class Net(nn.Module):
    def __init__(self, outputs: int = 3, tail: Any = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, outputs)
        self.tail = tail or (lambda x: x)

    def forward(self, x: Tensor) -> Any:
        return self.tail(self.fc(self.b(self.a(x).relu()).mean((2, 3))))


@pytest.mark.parametrize(
    ("network", "classes", "said"),
    [
        (lambda: Net(1), "ab", ONE_OUTPUT),
        (lambda: Net(1, lambda x: x[:, 0]), "ab", ONE_OUTPUT),
        (lambda: Net(3, lambda x: x.argmax(1)), "abc", "a class number"),
        (lambda: Net(3, lambda x: x[..., None, None]), "abc", r"torch\.flatten\(x, 1\)"),
        (lambda: Net(4), "abc", "one class more than the data"),
        (lambda: Net(7), "abc", "it is to predict 3 classes"),
    ],
)
def test_networks_of_another_shape(network: Any, classes: str, said: str) -> None:
    with pytest.raises(UserError, match=f"mine:net gives .* for two images; expected .*{said}"):
        check_forward(network(), spec_of(classes), "mine:net")


# Layers that compute their weights


@pytest.mark.parametrize(
    ("norm", "fold"),
    [
        (nn.utils.parametrizations.weight_norm, r"WeightNorm.*remove_parametrizations"),
        (nn.utils.parametrizations.spectral_norm, r"SpectralNorm.*remove_parametrizations"),
        (nn.utils.weight_norm, r"WeightNorm.*remove_weight_norm"),
        (nn.utils.spectral_norm, r"SpectralNorm.*remove_spectral_norm"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # that the old ones are old
def test_layers_that_compute_their_weights_are_named(norm: Any, fold: str) -> None:
    model = Net()
    norm(model.b)
    with pytest.raises(UserError, match=rf"Net cannot be pruned: layer 'b' is rep.*\({fold}"):
        PrunableNetwork(model, spec_of("abc"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_cannot_be_copied_is_told_why() -> None:
    model = Net()
    nn.utils.weight_norm(model.b)
    with pytest.raises(UserError, match=r"mine:net .* copied: layer 'b' .*remove_weight_norm"):
        check_forward(model, spec_of("abc"), "mine:net")


# Weights


def test_weights_that_are_not_finite_are_named_with_their_file() -> None:
    for wrong in (torch.nan, torch.inf):
        state = Net().state_dict()
        state["b.bias"][3] = wrong
        with pytest.raises(UserError, match=r"b\.bias in w\.pth holds numbers that are not fin"):
            load_into(Net(), state, Path("w.pth"))
    large = {k: torch.full_like(v, 3e38) for k, v in Net().state_dict().items()}
    load_into(Net(), large, Path("w.pth"))  # finite, and their sum is not


def test_a_mask_may_be_infinite() -> None:
    class Masked(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

    loaded, state = Masked(), Masked().state_dict()
    load_into(loaded, state, Path("w.pth"))
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_quantized_weights_are_called_that(tmp_path: Path) -> None:
    state = Net().state_dict()
    state["a.weight"] = torch.quantize_per_tensor(state["a.weight"], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"a\.weight is a quantized tensor, and float weights"):
        load_into(Net(), load_tensors(tmp_path / "w.pth")[0], tmp_path / "w.pth")
    packed = Net().state_dict() | {"fc.scale": torch.ones(1), "fc.zero_point": torch.zeros(1)}
    del packed["fc.weight"]
    with pytest.raises(UserError, match="They are of a quantized network"):
        load_into(Net(), packed, tmp_path / "w.pth")


def test_numpy_arrays_in_the_place_of_weights(tmp_path: Path) -> None:
    arrays = {k: v.numpy() for k, v in Net().state_dict().items()}
    torch.save({"model": arrays, "epoch": 3}, tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", **arrays)
    for name in ("w.pth", "w.npz"):
        with pytest.raises(UserError, match=r"NumPy arrays.*torch\.from_numpy"):
            read_checkpoint(tmp_path / name)
    np.save(tmp_path / "w.npy", arrays["fc.bias"])
    with pytest.raises(UserError, match="is one NumPy array"):
        read_checkpoint(tmp_path / "w.npy")


def test_packed_files_are_to_be_unpacked(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "w.pth")
    (tmp_path / "w.gz").write_bytes(gzip.compress((tmp_path / "w.pth").read_bytes()))
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(tmp_path / "w.pth", "w.pth")
    with pytest.raises(UserError, match="compressed by gzip: unpack it"):
        read_checkpoint(tmp_path / "w.gz")
    with pytest.raises(UserError, match="a tar archive: unpack it"):
        read_checkpoint(tmp_path / "w.tar")


def test_a_loss_beside_the_weights_is_left_alone(tmp_path: Path) -> None:
    state, loss = Net().state_dict(), nn.CrossEntropyLoss(weight=torch.ones(3))
    path = tmp_path / "w.pth"
    torch.save({"loss": loss, "model": state}, path)
    assert load_tensors(path)[0].keys() == state.keys()
    torch.save({"loss": loss, "model": state}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"holds an object of torch\.nn beside the weights"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ({"classes": np.array(["a", "b"])}, r"is a NumPy array, .*\.tolist\(\)"),
        ({"classes": list(np.array(["a", "b"]))}, r"holds NumPy's own names"),
        ({"class_to_idx": {"a": np.int64(0), "b": np.int64(1)}}, r"holds NumPy's own names"),
    ],
)
def test_classes_of_numpy_are_told_so(noted: dict[str, Any], said: str, tmp_path: Path) -> None:
    torch.save({"model": Net().state_dict(), **noted}, tmp_path / "w.pth")
    known = read_checkpoint(tmp_path / "w.pth")[1]["classes"]
    with pytest.raises(UserError, match=f"of the weights {said}"):
        check_class_names(known, ("a", "b"))
