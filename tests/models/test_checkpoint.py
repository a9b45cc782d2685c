"""Weights are data: damaged, foreign and executable files are refused with a reason."""

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import shlex
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import mnasnet0_5

from compress.models.checkpoint import load_into, load_tensors, read_checkpoint, save_tensors
from compress.models.weight_names import fitted
from compress.utils.errors import UserError
from compress.utils.files import atomic, inside


def test_roundtrip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"n": [1, 2], "s": "text"})
    loaded, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"n": [1, 2], "s": "text"}
    assert all(torch.equal(tensors[k], loaded[k]) for k in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


class Net(nn.Module):
    """Like torchvision's networks: a trunk, batch norms, a last layer called fc."""

    def __init__(self, classes: int = 4, auxiliary: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, classes)
        if auxiliary:
            self.aux1 = nn.Linear(8, classes)


class Wrapped(nn.Module):
    """A network whose own part has the name that DataParallel puts before all."""

    def __init__(self) -> None:
        super().__init__()
        self.module = Net()


def drawn(model: nn.Module, seed: int) -> nn.Module:
    """The model with weights that no other seed gives, statistics of batch norms included."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return model


def loaded(path: Path, model: nn.Module) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The network's tensors after loading a file as a recipe's weights, and the notes."""
    state_dicts, _ = read_checkpoint(path)
    tensors, notes = fitted(state_dicts, model)
    load_into(model, tensors, path)
    return model.state_dict(), notes


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[k], expected[k]) for k in expected)


STATE = drawn(Net(), 1).state_dict()
OTHER = drawn(Net(), 2).state_dict()


def before(prefix: str, state: dict[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimizer_state() -> dict[str, Any]:
    model = drawn(Net(), 3)
    optimizer = torch.optim.Adam(model.parameters())
    model.fc(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


SAVED: dict[str, Any] = {
    "plain": STATE,
    **{
        wrapper: {"epoch": 3, wrapper: STATE, "optimizer": optimizer_state(), "best": 0.9}
        for wrapper in (
            "state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "mine"
        )
    },
    "nested once more": {"checkpoint": {"epoch": 3, "model": {"state_dict": STATE}}},
    "in a list": {"folds": [{"score": 1.0}, {"net": STATE}]},
    **{
        prefix: before(prefix)
        for prefix in (
            "module.", "model.", "_orig_mod.", "net.", "network.", "backbone.",
            "module._orig_mod.", "_orig_mod.module.", "model.backbone.", "model.net.module.",
        )
    },
    "wrapper and prefix": {"state_dict": before("model._orig_mod."), "callbacks": {}},
    "only the trunk is parallel": {
        k.replace("features.", "features.module."): v for k, v in STATE.items()
    },
    "only the trunk is compiled": {
        k.replace("features.", "module.features._orig_mod."): v for k, v in STATE.items()
    },
    "parts": {
        "features": {k[9:]: v for k, v in STATE.items() if k.startswith("features.")},
        "fc": {"weight": STATE["fc.weight"], "bias": STATE["fc.bias"]},
        "optimizer": optimizer_state(),
    },
    "averaged model": AveragedModel(drawn(Net(), 1)).state_dict(),
    "generator's state": {"rng_state": torch.get_rng_state(), "model": STATE},
    "counted by thop": STATE | {"total_ops": torch.ones(1), "fc.total_params": torch.ones(1)},
    "no counts of batches": {k: v for k, v in STATE.items() if "num_batches" not in k},
}  # fmt: skip


@pytest.mark.parametrize("kind", SAVED)
def test_checkpoints_as_people_save_them(kind: str, tmp_path: Path) -> None:
    torch.save(SAVED[kind], tmp_path / "x.pt")
    got, notes = loaded(tmp_path / "x.pt", drawn(Net(), 9))
    if kind == "no counts of batches":
        got = {k: v for k, v in got.items() if "num_batches" not in k}
    assert_same(got, SAVED["plain"] if kind != "no counts of batches" else SAVED[kind])
    assert notes == []


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod.", "backbone."])
def test_prefixes_in_safetensors(prefix: str, tmp_path: Path) -> None:
    save_file(before(prefix), tmp_path / "x.safetensors", {"classes": '["a", "b"]'})
    assert_same(loaded(tmp_path / "x.safetensors", Net())[0], STATE)
    assert read_checkpoint(tmp_path / "x.safetensors")[1] == {"classes": ["a", "b"]}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.module."])
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_name_of_the_network_itself_stays(prefix: str, name: str, tmp_path: Path) -> None:
    state = drawn(Wrapped(), 1).state_dict()
    (save_file if name == "x.safetensors" else torch.save)(before(prefix, state), tmp_path / name)
    assert_same(loaded(tmp_path / name, Wrapped())[0], state)


def test_what_a_file_is_counts_and_not_its_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "pytorch_model.bin")
    torch.save(STATE, tmp_path / "x.safetensors")
    for name in ("pytorch_model.bin", "x.safetensors"):
        assert_same(loaded(tmp_path / name, Net())[0], STATE)


def test_files_from_before_torch_1_6(tmp_path: Path) -> None:
    saved = {"state_dict": before("module."), "args": argparse.Namespace(lr=1)}
    torch.save(saved, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=False)
    assert_same(loaded(tmp_path / "x.pth.tar", Net())[0], STATE)
    torch.save(Net(), tmp_path / "whole.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"a whole pickled model \(.*test_checkpoint\.Net\)"):
        read_checkpoint(tmp_path / "whole.pt")


@pytest.mark.parametrize(
    ("saved", "averaged", "said"),
    [
        ({"state_dict": OTHER, "state_dict_ema": STATE}, True, "'state_dict_ema'"),
        ({"model": OTHER, "model_ema": before("module.")}, True, "'model_ema.module'"),
        ({"ema": {"shadow": STATE}, "net": OTHER}, True, "'ema.shadow'"),
        ({"params": OTHER, "params_ema": STATE}, True, "'params_ema'"),
        ({"model": OTHER, "swa_model": AveragedModel(drawn(Net(), 1)).state_dict()}, True, "'swa_"),
        (
            {"model": OTHER, "second": AveragedModel(drawn(Net(), 1)).state_dict()},
            True,
            "'second.module'",
        ),
        (
            {"state_dict": before("model.", OTHER) | before("ema_model.")},
            True,
            "'state_dict.ema_model'",
        ),
        ({"student": OTHER, "model": STATE}, False, "'model'"),
        ({"last": STATE, "semantic": OTHER}, False, "'last'"),
    ],
)
def test_of_two_state_dicts_one_is_taken_by_a_rule_and_named(
    saved: dict[str, Any], averaged: bool, said: str, tmp_path: Path
) -> None:
    torch.save(saved, tmp_path / "x.pt")
    got, notes = loaded(tmp_path / "x.pt", Net())
    assert_same(got, STATE)
    assert len(notes) == 1 and notes[0].startswith(f"weights are those under {said}")
    assert ("the averaged ones" in notes[0]) == averaged
    assert "and not those under" in notes[0]


def test_averaged_weights_of_another_network_are_not_taken(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "ema": Net(7).state_dict()}, tmp_path / "x.pt")
    got, notes = loaded(tmp_path / "x.pt", Net())
    assert_same(got, STATE)
    assert notes == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_other_precisions_become_the_networks(
    dtype: torch.dtype, name: str, tmp_path: Path
) -> None:
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}
    (save_file if name == "x.safetensors" else torch.save)(other, tmp_path / name)
    got, _ = loaded(tmp_path / name, Net())
    assert_same(got, {k: v.to(STATE[k].dtype) for k, v in other.items()})


def test_a_tensor_that_the_network_has_twice_is_saved_once(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = Net()
        model.alias = model.features
        return model

    save_model(drawn(tied(), 1), str(tmp_path / "x.safetensors"))
    assert len(load_tensors(tmp_path / "x.safetensors")[0]) < len(tied().state_dict())
    assert_same(loaded(tmp_path / "x.safetensors", tied())[0], drawn(tied(), 1).state_dict())


def test_a_trunk_alone_is_found_for_a_last_part_that_is_trained_anew(tmp_path: Path) -> None:
    trunk = {k: v for k, v in STATE.items() if k.startswith("features.")}
    torch.save(
        {"encoder": before("module.", trunk), "head.weight": torch.ones(7, 8)}, tmp_path / "x"
    )
    tensors, notes = fitted(read_checkpoint(tmp_path / "x")[0], Net())
    assert_same(tensors, trunk)
    assert notes == []


def test_what_lies_beside_the_network_is_named(tmp_path: Path) -> None:
    state = before("model.") | {"criterion.weight": torch.ones(4), "n_averaged": torch.tensor(2)}
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    got, notes = loaded(tmp_path / "x.ckpt", Net())
    assert_same(got, STATE)
    assert len(notes) == 1 and "left out: state_dict.criterion (1 tensor)" in notes[0]


def test_auxiliary_heads_may_be_left_out(tmp_path: Path) -> None:
    state = drawn(Net(auxiliary=True), 1).state_dict()
    torch.save({"model": before("module.", state)}, tmp_path / "x.pt")
    got, notes = loaded(tmp_path / "x.pt", Net())
    assert_same(got, {k: v for k, v in state.items() if not k.startswith("aux")})
    assert len(notes) == 1 and "left out: aux1 (2 tensors)" in notes[0]
    got, notes = loaded(tmp_path / "x.pt", Net(auxiliary=True))
    assert_same(got, state)
    assert notes == []
    torch.save(STATE, tmp_path / "without.pt")
    with pytest.raises(UserError, match=r"2 missing \(aux1.*aux_logits: false"):
        loaded(tmp_path / "without.pt", Net(auxiliary=True))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_networks_with_auxiliary_heads(name: str, tmp_path: Path) -> None:
    build = getattr(pytest.importorskip("torchvision").models, name)
    whole = build(num_classes=6, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "x.pt")
    model = build(num_classes=6, aux_logits=False, init_weights=False)
    got, notes = loaded(tmp_path / "x.pt", model)
    assert_same(
        got, {k: v for k, v in whole.state_dict().items() if not k.lower().startswith("aux")}
    )
    assert len(notes) == 1 and "auxiliary heads that the network does not have" in notes[0]


def test_a_deeper_network_of_the_same_names_is_refused(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    torch.save({"state_dict": models.resnet34().state_dict()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"unknown \(layer1\.2\.conv1\.weight"):
        loaded(tmp_path / "x.pt", models.resnet18())


def test_another_number_of_classes_is_called_that(tmp_path: Path) -> None:
    torch.save({"state_dict": before("module.", Net(7).state_dict())}, tmp_path / "x.pt")
    with pytest.raises(UserError) as caught:
        loaded(tmp_path / "x.pt", Net(4))
    assert "fc.weight (7, 8) instead of (4, 8), fc.bias (7,) instead of (4,)" in str(caught.value)
    assert "another number of classes" in str(caught.value)
    assert "teacher.train_only: fc," in str(caught.value)


def test_of_another_networks_weights_only_that_is_said(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    torch.save({"a": models.resnet18().state_dict()}, tmp_path / "x.pt")
    model = models.googlenet(init_weights=False)
    tensors, notes = fitted(read_checkpoint(tmp_path / "x.pt")[0], model)
    assert notes == []
    with pytest.raises(UserError, match=r"missing .*Check builder, settings and number"):
        load_into(model, tensors, tmp_path / "x.pt")


def test_other_shapes_are_not_called_other_classes(tmp_path: Path) -> None:
    state = STATE | {"features.0.weight": torch.ones(8, 1, 3, 3)}
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(UserError) as caught:
        loaded(tmp_path / "x.pt", Net())
    assert "features.0.weight (8, 1, 3, 3) instead of (8, 3, 3, 3)" in str(caught.value)
    assert "train_only" not in str(caught.value)


BESIDE = {
    "namespace": argparse.Namespace(lr=0.1, data=Path("x"), sizes=[1, 2], seen={1, 2}),
    "NumPy scalars": [np.float64(91.5), np.float32(1), np.int64(3), np.bool_(True), np.str_("a")],
    "arrays": [np.zeros(3), np.array([["a", "bc"]]), np.array([None, 1], dtype=object)],
    "array of dates": np.array(["2024-01-01"], "datetime64[D]"),
    "fields": np.zeros(2, [("a", "f4"), ("b", "i8")]),
    "dtypes": [np.dtype("float32"), np.dtype("<U3"), np.float16, torch.float16],
    "state of a generator": np.random.RandomState(0).get_state(),
    "paths": [Path("a/b"), pathlib.PurePosixPath("/c"), pathlib.PureWindowsPath("C:/d")],
    "times": [
        datetime.datetime.now(datetime.UTC), datetime.date.today(), datetime.timedelta(1),
        datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ],
    "containers": [
        collections.OrderedDict(a=1), collections.defaultdict(list), collections.Counter("ab"),
        collections.deque([1, 2], 3), frozenset([1]), {1, 2}, range(3), slice(1, 2),
    ],
    "simple namespace": types.SimpleNamespace(a=1),
    "bytes": [b"ab", bytearray(b"c"), 1 + 2j, 2**80, None],
}  # fmt: skip


@pytest.mark.parametrize("kind", BESIDE)
def test_harmless_objects_beside_the_weights(kind: str, tmp_path: Path) -> None:
    torch.save({"args": BESIDE[kind], "model": STATE}, tmp_path / "x.pt")
    before = torch.serialization.get_safe_globals()
    assert_same(loaded(tmp_path / "x.pt", Net())[0], STATE)
    assert set(torch.serialization.get_safe_globals()) == set(before)  # admitted here alone


def test_state_dicts_in_other_dicts(tmp_path: Path) -> None:
    torch.save(collections.defaultdict(dict, net=collections.OrderedDict(STATE)), tmp_path / "x.pt")
    assert_same(loaded(tmp_path / "x.pt", Net())[0], STATE)


@pytest.mark.parametrize(
    "module",
    [b"pathlib\nPosixPath", b"pathlib\nWindowsPath", b"pathlib._local\nWindowsPath",
     b"numpy.core.multiarray\n_reconstruct", b"numpy._core.multiarray\nscalar"],
)  # fmt: skip
def test_what_other_systems_and_versions_wrote(module: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"args": Path("a"), "model": STATE}, path)
    _rewrite(path, lambda pickled: pickled.replace(b"pathlib\nPosixPath", module))
    assert_same(loaded(path, Net())[0], STATE)


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changes the pickle in an archive of torch.save."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.mark))}",)


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "it was run"
    evil = _Evil(mark)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(evil))
    torch.save(evil, tmp_path / "x.pt")
    torch.save({"model": STATE, "extra": [evil]}, tmp_path / "within.pt")
    torch.save(evil, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("x.pkl", "x.pt", "within.pt", "old.pt"):
        with pytest.raises(UserError, match=r"is refused.*model\.state_dict\(\)"):
            load_tensors(tmp_path / name)
    with pytest.raises(UserError, match=r"holds posix\.system,"):
        load_tensors(tmp_path / "within.pt")
    assert not mark.exists()


@dataclass
class Config:
    rate: float = 0.1


def test_other_classes_are_named(tmp_path: Path) -> None:
    torch.save({"model": STATE, "config": Config()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"holds \S*test_checkpoint\.Config, .*state_dict\(\)"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("within", [False, True])
def test_whole_pickled_models_are_called_that(within: bool, tmp_path: Path) -> None:
    torch.save({"model": Net(), "epoch": 1} if within else Net(), tmp_path / "x.pt")
    with pytest.raises(UserError) as caught:
        read_checkpoint(tmp_path / "x.pt")
    assert "a whole pickled model" in str(caught.value)
    assert "test_checkpoint.Net" in str(caught.value)
    assert "torch.save(model.state_dict(), 'weights.pt')" in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_networks_with_their_code_are_called_what_they_are(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    images = torch.zeros(1, 3, 8, 8)
    torch.jit.trace(model, images).save(str(tmp_path / "script.pt"))
    torch.export.save(torch.export.export(model, (images,)), tmp_path / "program.pt2")
    for name, kind in [("script.pt", "a TorchScript archive"), ("program.pt2", "torch.export")]:
        with pytest.raises(UserError, match=rf"{kind}.*ONNX.*teacher\.onnx.*state_dict\(\)"):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("x.pth", b"\n<!DOCTYPE html><html>", "a web page"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("x.onnx", b"\x08\x07", "teacher.onnx"),
        ("x.pt", b"", "damaged"),
        ("x.pt", b"weights", "damaged"),
    ],
)
def test_other_files_are_called_what_they_are(
    name: str, content: bytes, expected: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read_checkpoint(tmp_path / name)


def test_other_archives_and_protocols(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match=r"zip archive that torch\.save did not write"):
        read_checkpoint(tmp_path / "x.zip")
    torch.save(STATE, tmp_path / "x.pt", pickle_protocol=4)
    with pytest.raises(UserError, match="pickle_protocol=4"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("new", [True, False])
def test_damaged_torch_files_are_called_damaged(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(path)
    if new:  # the old form has no checksums
        found = whole.index(STATE["fc.weight"].numpy().tobytes())
        path.write_bytes(whole[:found] + bytes(8) + whole[found + 8 :])
        with pytest.raises(UserError, match=r"is damaged.*checksum"):
            read_checkpoint(path)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No weights at"):
        load_tensors(tmp_path / "x.safetensors")
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="damaged"):
        load_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        load_tensors(path)
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"no state dict .*, only: epoch"):
        load_tensors(tmp_path / "x.pt")


def test_layers_that_ask_for_the_version_of_their_weights_get_it(tmp_path: Path) -> None:
    saved, other = drawn(mnasnet0_5(num_classes=3), 0), drawn(mnasnet0_5(num_classes=3), 1)
    path = tmp_path / "x.safetensors"
    save_tensors(path, saved.state_dict(), {})
    load_into(other, load_tensors(path)[0], path)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in saved.state_dict().items())


def test_weights_of_another_shape_are_named() -> None:
    state = nn.Linear(3, 5).state_dict() | {"extra": torch.ones(1)}
    with pytest.raises(UserError) as caught:
        load_into(nn.Linear(3, 4), state, Path("w.safetensors"))
    assert "1 unknown (extra)" in str(caught.value)
    assert "weight (5, 3) instead of (4, 3)" in str(caught.value)


NAMES = st.sampled_from(["module", "model", "_orig_mod", "ema", "net", "fc", "aux", "a.b", "", "."])


@st.composite
def checkpoints(draw: st.DrawFn) -> Any:
    """A state dict, whole or not, wrapped at random, with anything beside it."""
    names = draw(st.sets(st.sampled_from(sorted(STATE)))) if draw(st.booleans()) else set(STATE)
    prefix = "".join(f"{name}." for name in draw(st.lists(NAMES, max_size=2)))
    saved: Any = {prefix + k: STATE[k] for k in STATE if k in names}
    values = st.one_of(
        st.none(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()),
        st.sampled_from([
            torch.ones(2), torch.zeros(()), torch.ones(2).to_sparse(), torch.zeros(1, 0),
            torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), torch.ones(2).cfloat(),
            torch.ones(2, device="meta"), OTHER, {0: STATE}, Path("x"), np.ones(2), Config(),
            nn.Parameter(torch.ones(3)), Net(), (STATE,),
        ]),
    )  # fmt: skip
    keys = st.one_of(NAMES, st.sampled_from(sorted(STATE)), st.text(), st.integers(), st.none())
    for _ in range(draw(st.integers(0, 3))):
        extra = draw(st.dictionaries(keys, values, max_size=3))
        if isinstance(saved, dict):
            saved = {**extra, **saved} if draw(st.booleans()) else {**saved, **extra}
        if draw(st.booleans()):
            saved = [saved, extra] if draw(st.booleans()) else {draw(NAMES): saved}
    return saved


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(saved=checkpoints(), new=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_any_checkpoint_is_loaded_or_refused(saved: Any, new: bool, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    _load_or_refuse(tmp_path / "x.pt")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["x.pt", "x.safetensors"]),
    start=st.sampled_from([
        b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x20\0\0\0\0\0\0\0{",
    ]),
    rest=st.binary(),
)  # fmt: skip
def test_any_bytes_are_refused(name: str, start: bytes, rest: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(start + rest)
    with pytest.raises(UserError):
        read_checkpoint(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"\x80"]), rest=st.binary())
@pytest.mark.filterwarnings("ignore")
def test_any_pickle_in_an_archive_is_refused(start: bytes, rest: bytes, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    _rewrite(tmp_path / "x.pt", lambda _: start + rest)
    with pytest.raises(UserError):
        read_checkpoint(tmp_path / "x.pt")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["new", "old", "safetensors"]),
    place=st.floats(0, 1, exclude_max=True),
    changed=st.binary(min_size=1, max_size=4),
)
def test_any_changed_byte_is_loaded_or_refused(
    kind: str, place: float, changed: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    if kind == "safetensors":
        save_file(before("module."), path)
    else:
        saved = {"args": argparse.Namespace(a=Path("x")), "model": before("module.")}
        torch.save(saved, path, _use_new_zipfile_serialization=kind == "new")
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    content[at : at + len(changed)] = changed
    path.write_bytes(content)
    _load_or_refuse(path)


def _load_or_refuse(path: Path) -> None:
    """Loads a file; where that is refused, the network is as it was."""
    model = drawn(Net(), 9)
    try:
        loaded(path, model)
    except UserError:
        assert_same(model.state_dict(), drawn(Net(), 9).state_dict())


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(10)}, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system's own "no more": a write past this size fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError, match="The disk is full"):
            save_tensors(path, {"a": torch.ones(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(load_tensors(path)[0]["a"], torch.ones(10))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name) is None
    assert inside(tmp_path, "a/../b.jpg") == tmp_path / "b.jpg"


def test_complex_weights_do_not_lose_a_part_in_silence(tmp_path: Path) -> None:
    net = Net()
    tensors = {
        k: v.to(torch.complex64) if k == "fc.weight" else v for k, v in net.state_dict().items()
    }
    with pytest.raises(UserError, match=r"fc\.weight holds complex numbers"):
        load_into(net, tensors, tmp_path / "w.pt")
