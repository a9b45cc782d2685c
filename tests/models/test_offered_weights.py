"""Weights that libraries offer: what comes damaged is refused as what does not come at all."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from compress.models.pretrained import Pretrained
from compress.utils.errors import UserError

NAME = "torchvision:ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"
FILE = "shufflenetv2_x0.5-f707e7126e.pth"
BUILDER = "torchvision.models:shufflenet_v2_x0_5"


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        RuntimeError('invalid hash value (expected "f707e7126e", got "00")'),
        pickle.UnpicklingError("invalid load key"),
        EOFError("Ran out of input"),
    ],
)
def test_a_download_that_fails_or_is_damaged(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere/that/is")
    monkeypatch.setattr(os, "makedirs", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"could not be downloaded from https://.*put it at"):
        Pretrained.read(NAME, BUILDER, None)


def test_a_damaged_file_of_an_earlier_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILE).write_bytes(b"<html>sign in to this network</html>")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=f"put it at {tmp_path}"):
        Pretrained.read(NAME, BUILDER, None)


def test_timm_s_weights_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("damaged\nand more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"\(damaged\)\. Download model.safetensors"):
        Pretrained.read("timm", "timm:mobilenetv3_small_050", None)


def test_what_is_foreseen_is_named_and_shaped_as_what_comes() -> None:
    found = Pretrained.foreseen(NAME, BUILDER).state_dicts[""]
    assert found["fc.weight"].shape == (1000, 1024)
    assert Pretrained.foreseen("timm", "timm:mobilenetv3_small_050").state_dicts[""]
