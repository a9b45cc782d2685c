"""Attention written out in products and a softmax, where the exporter does not translate it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor


@contextmanager
def plain_attention() -> Iterator[None]:
    """Let networks that ask torch for attention compute it step by step while this is open."""
    own = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = own


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(q kᵀ scale + mask) v, in evaluation mode, of any number of leading axes.

    The arguments are those of `torch.nn.functional.scaled_dot_product_attention`.
    """
    if enable_gqa:  # several heads of queries share one of keys and values
        shared = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(shared, -3) for x in (key, value))
    by = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-2, -1) * by
    if is_causal:
        later = scores.new_ones(scores.shape[-2:]).tril() == 0
        scores = scores.masked_fill(later, -math.inf)
    if attn_mask is not None and attn_mask.dtype.is_floating_point:
        scores = scores + attn_mask
    elif attn_mask is not None:
        scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
    return scores.softmax(-1) @ value
