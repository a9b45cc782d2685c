"""Multiply-accumulates of files with several inputs."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.measure.macs import count_macs, macs_by_node
from tests.onnx_graphs import FLOAT, WEIGHT, node, save


def with_prompts(path: Path, batch: int | str, prompts: int | str) -> Path:
    """A file of images and of prompts beside them, each times a matrix of 3 x 3."""
    nodes = [
        node("GlobalAveragePool", ["image"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("MatMul", ["flat", "weight"], ["named"]),
        node("MatMul", ["prompts", "weight"], ["embedded"]),
        node("Transpose", ["embedded"], ["turned"]),
        node("MatMul", ["named", "turned"], ["y"]),
    ]
    inputs = {"image": (FLOAT, (batch, 3, 8, 8)), "prompts": (FLOAT, (prompts, 3))}
    return save(path, nodes, inputs, {"y": (FLOAT, 2)}, {"weight": np.asarray(WEIGHT)})


@pytest.mark.parametrize("batch", [1, 4])
def test_the_batch_is_not_put_into_another_inputs_own_size(batch: int, tmp_path: Path) -> None:
    file = with_prompts(tmp_path / "m.onnx", "n", 5)
    counted = [macs for _, macs in macs_by_node(onnx.load(file), batch)]
    assert counted[2:4] == [batch * 9, 5 * 9]


def test_a_file_of_a_fixed_batch_counts_for_one_image(tmp_path: Path) -> None:
    file = with_prompts(tmp_path / "m.onnx", 8, 8)  # a prompt for each image
    counted = [macs for _, macs in macs_by_node(onnx.load(file), batch=1)]
    assert counted[2:4] == [9, 9]


@pytest.mark.parametrize("free", ["n", -1])  # some exporters write -1
def test_several_free_inputs_share_the_batch(free: int | str, tmp_path: Path) -> None:
    file = with_prompts(tmp_path / "m.onnx", "n", free)
    counted = [macs for _, macs in macs_by_node(onnx.load(file), batch=2)]
    assert counted[2:4] == [18, 18]
    assert count_macs(file)[1] == []
