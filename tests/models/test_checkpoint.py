"""Weights are data: damaged, foreign and executable files are refused with a reason."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.models.checkpoint import load_into, load_tensors, save_tensors
from compress.utils.errors import UserError
from compress.utils.files import atomic, inside


def test_roundtrip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"n": [1, 2], "s": "text"})
    loaded, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"n": [1, 2], "s": "text"}
    assert all(torch.equal(tensors[k], loaded[k]) for k in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_torch_files_that_hold_tensors_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, tmp_path / "x.pt")
    assert torch.equal(load_tensors(tmp_path / "x.pt")[0]["a"], torch.ones(2))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/compress-was-here",)


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    mark = Path("/tmp/compress-was-here")
    mark.unlink(missing_ok=True)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(_Evil()))
    torch.save(_Evil(), tmp_path / "x.pt")
    for name in ("x.pkl", "x.pt"):
        with pytest.raises(UserError, match="is refused"):
            load_tensors(tmp_path / name)
    assert not mark.exists()


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
    with pytest.raises(UserError, match="no state dict"):
        load_tensors(tmp_path / "x.pt")


def test_weights_of_another_shape_are_named() -> None:
    state = nn.Linear(3, 5).state_dict() | {"extra": torch.ones(1)}
    with pytest.raises(UserError) as caught:
        load_into(nn.Linear(3, 4), state, Path("w.safetensors"))
    assert "1 unknown (extra)" in str(caught.value)
    assert "weight (5, 3) instead of (4, 3)" in str(caught.value)


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
