"""Attention in forms that the exporter does not translate is written out, and computes the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.export.onnx import check_export, export_onnx
from compress.export.plain_attention import attention, plain_attention
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance

SPEC = InputSpec(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1), classes=("a", "b", "c"))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    mask=st.sampled_from(["none", "bool", "float", "causal"]),
    grouped=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
)
def test_it_is_torch_s_own(seed: int, mask: str, grouped: bool, scale: float | None) -> None:
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 4, 5, 8, generator=draw)
    key, value = (torch.randn(2, 2 if grouped else 4, 6, 8, generator=draw) for _ in range(2))
    masks = {
        "bool": torch.rand(5, 6, generator=draw) < 0.7,
        "float": torch.randn(5, 6, generator=draw),
    }
    masks["bool"][:, 0] = True  # what sees nothing has no answer
    given = {
        "attn_mask": masks.get(mask),
        "is_causal": mask == "causal",
        "scale": scale,
        "enable_gqa": grouped,
    }
    expected = F.scaled_dot_product_attention(query, key, value, **given)
    torch.testing.assert_close(attention(query, key, value, **given), expected)


def test_torch_s_own_comes_back() -> None:
    own = F.scaled_dot_product_attention
    with pytest.raises(ZeroDivisionError), plain_attention():
        assert F.scaled_dot_product_attention is attention
        raise ZeroDivisionError
    assert F.scaled_dot_product_attention is own


class Windows(nn.Module):
    """Attention within windows, five axes, as Twins has it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(3, 48, 1)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        parts = self.qkv(x).reshape(n, 3, 2, 8, 4, 16).permute(1, 0, 4, 2, 5, 3)
        found = F.scaled_dot_product_attention(*parts.unbind(0))  # (n, windows, heads, 16, 8)
        return self.fc(found.mean((1, 3)).flatten(1))


def test_a_network_with_such_attention_is_exported_and_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    candidate = Candidate(Windows(), "made up", {}, SPEC, Provenance(("windows",)))
    file = tmp_path / "windows.onnx"
    export_onnx(candidate, file)
    images = np.random.default_rng(0).standard_normal((4, *SPEC.shape)).astype(np.float32)
    assert check_export(candidate, file, images) < 1e-5
