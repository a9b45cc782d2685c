"""The exported file computes what the network computes, and what is counted in it is right."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from compress.data.input_spec import InputSpec
from compress.export.artifact import spec_of
from compress.export.onnx import check_export, count_parameters, export_onnx
from compress.measure.macs import count_macs
from compress.models.candidate import Candidate
from compress.models.onnx_graph import module_of
from compress.models.provenance import Provenance
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError

SPEC = InputSpec(
    height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), classes=tuple("abcdefg")
)
NETWORKS = {
    "vgg": ("teachers.vgg:vgg16_bn", {"pool": 1, "classifier_width": 16, "width": 0.1}),
    "shufflenet": ("students.shufflenet:shufflenet_v2_x0_5", {}),
    "mobilenet_v2": ("students.mobilenet:mobilenet_v2", {"width_mult": 0.35}),
    "mobilenet_v3": ("students.mobilenet:mobilenet_v3_small", {}),
    "resnet": ("torchvision.models:resnet18", {}),
}


def make(name: str) -> Candidate:
    builder, settings = NETWORKS[name]
    candidate = Candidate.create(builder, settings, SPEC, (name,), 0, ())
    # Batch norms that do something: statistics of fresh networks are 0 and 1.
    torch.manual_seed(0)
    candidate.model.train()
    for module in candidate.model.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 0.9
    with torch.no_grad():
        for _ in range(3):
            candidate.model(torch.randn(16, 3, 32, 32) * 2 + 1)
    return candidate


@pytest.fixture(scope="module", params=NETWORKS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Candidate, Path]:
    candidate = make(request.param)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(candidate, path)
    return candidate, path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 32, 32)).astype(np.float32)


def test_the_file_equals_the_network_at_any_batch(exported: tuple[Candidate, Path]) -> None:
    candidate, path = exported
    for count in (1, 2, 5):
        assert check_export(candidate, path, images(count)) < 1e-4


def test_weights_that_no_file_holds_are_refused_before_anything_is_tried(tmp_path: Path) -> None:
    small = make("resnet")
    with torch.device("meta"):  # no memory is taken
        large = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 170_000), nn.Linear(170_000, 7))
    path = tmp_path / "model.onnx"
    with pytest.raises(UserError, match=r"resnet .* 2\.09 GB in float32, and one file holds 2\.08"):
        export_onnx(replace(small, model=large), path)
    assert not path.exists()


def test_batch_norms_are_folded_and_the_input_is_documented(
    exported: tuple[Candidate, Path],
) -> None:
    _, path = exported
    assert "BatchNormalization" not in {n.op_type for n in onnx.load(path).graph.node}
    assert spec_of(path) == SPEC


def test_a_file_tells_its_layers_and_nothing_of_this_machine(
    exported: tuple[Candidate, Path],
) -> None:
    candidate, path = exported
    content = path.read_bytes()
    for folder in (sys.prefix, torch.__path__[0], str(Path(__file__).parents[2]), str(Path.home())):
        assert folder.encode() not in content
    layers = {module_of(node) for node in onnx.load(path).graph.node} - {None}
    assert len(layers) > 3 and layers <= {name for name, _ in candidate.model.named_modules()}


def test_macs_and_parameters_against_torchs_own_count(exported: tuple[Candidate, Path]) -> None:
    candidate, path = exported
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        candidate.model.eval()(torch.zeros(1, 3, 32, 32))
    macs, uncounted = count_macs(path)
    assert macs == counter.get_total_flops() // 2
    assert not uncounted
    parameters = sum(p.numel() for p in candidate.model.parameters())
    # Folding a batch norm removes its scale, and gives a convolution without bias one.
    norms = [m for m in candidate.model.modules() if isinstance(m, BatchNorm)]
    assert (
        parameters - sum(n.num_features * 2 for n in norms) <= count_parameters(path) <= parameters
    )


@pytest.mark.parametrize(
    ("name", "layer"), [("vgg", "features.15"), ("shufflenet", "stage3.1.branch2.4")]
)
def test_a_mismatch_names_the_layer_where_it_starts(name: str, layer: str, tmp_path: Path) -> None:
    candidate, path = make(name), tmp_path / "model.onnx"
    export_onnx(candidate, path)
    proto = onnx.load(path)
    node = next(
        n for n in proto.graph.node
        if any(p.key.endswith("name_scopes") and f"'{layer}'" in p.value for p in n.metadata_props)
    )  # fmt: skip
    assert node.op_type == "Conv"
    for tensor in proto.graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.5, tensor.name)
            )
    onnx.save(proto, path)
    with pytest.raises(UserError, match="does not compute what the network does") as caught:
        check_export(candidate, path, images(4))
    assert f"{layer!r}" in str(caught.value)


class AlwaysDrops(nn.Module):
    """Dropout that does not ask for the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class Pooled(nn.Module):
    """A small network; `between` stands before its last layer."""

    def __init__(self, between: Callable[[Tensor], Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), norm or nn.BatchNorm2d(8)
        self.last, self.between = nn.Linear(8, 7), between

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.between(self.norm(self.first(x)).relu().mean((2, 3))))
        return logits


class NeverAsleep(nn.BatchNorm2d):
    """Stays in training mode, whatever is asked."""

    def train(self, mode: bool = True) -> Self:
        return super().train(True)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (
            lambda: Pooled(lambda x: F.dropout(x, 0.5)),
            r"twice .* before layer 'last', behind 'norm'",
        ),
        (lambda: Pooled(lambda x: x + torch.randn(x.shape)), r"twice .* random numbers"),
        (lambda: Pooled(AlwaysDrops()), r"twice .* in layer 'between'.*training=self.training"),
        (lambda: Pooled(nn.Identity(), NeverAsleep(8)), r"beside other images.* in layer 'norm'"),
        (
            lambda: Pooled(nn.Identity(), nn.BatchNorm2d(8, track_running_stats=False)),
            r"beside other images.* in layer 'norm'.*running statistics",
        ),
    ],
)
def test_a_network_without_one_answer_is_told_so_and_not_the_exporter(
    model: Callable[[], nn.Module], named: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    candidate = replace(make("vgg"), model=model())
    with pytest.raises(UserError, match=rf"^vgg .*{named}"):
        check_export(candidate, tmp_path / "no file is looked at.onnx", images(4))


def test_a_session_leaves_the_threads_arithmetic_alone(tmp_path: Path) -> None:
    export_onnx(make("vgg"), tmp_path / "model.onnx")
    # In a process of its own: only onnxruntime's first session changes anything.
    code = (
        "import sys; from pathlib import Path; from compress.runtimes.onnxruntime import "
        "OnnxSession; OnnxSession(Path(sys.argv[1]), 1); assert 5e-324 * 1.0 > 0"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.onnx")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot be loaded by onnxruntime"):
        OnnxSession(tmp_path / "x.onnx", 1)
    with pytest.raises(UserError, match="No model at"):
        spec_of(tmp_path / "missing.onnx")


def test_a_foreign_model_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(make("vgg"), path)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    with pytest.raises(UserError, match=r"compress\.input.*--spec"):
        spec_of(path)
    file = tmp_path / "spec.json"
    file.write_text(SPEC.model_dump_json())
    assert spec_of(path, file) == SPEC
    for text, expected in (
        (SPEC.at(64).model_dump_json(), r"takes images of \(3, 32, 32\)"),
        ('{"height": 32}', "width: Field required"),
        ("height: 32", "is no JSON"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=expected):
            spec_of(path, file)


class Counting(nn.Module):
    """Asks for the number of images in a way that the exporter does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.reshape(len(x), -1))


def test_a_network_that_counts_its_images_is_refused_in_a_sentence(tmp_path: Path) -> None:
    spec = InputSpec(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1), classes=tuple("abc"))
    candidate = Candidate(Counting(), "made up", {}, spec, Provenance(("counting",)))
    with pytest.raises(UserError, match=r"Write x\.shape\[0\] for len\(x\)"):
        export_onnx(candidate, tmp_path / "counting.onnx")
