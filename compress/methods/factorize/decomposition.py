"""One layer as a product of thinner ones: the mathematics of factorizing a network.

A weight W (out, in, kh, kw), or (out, in) for a linear layer, is unfolded into matrices; what is
kept of each is its largest singular values, as many as its rank.

- `svd`, linear layers and 1×1 convolutions: W ≈ (U√S)(√S Vᵀ), two layers in → r → out.
- `tucker2`, larger convolutions: W ≈ core ×₀ A ×₁ B with A (out, r_out) and B (in, r_in), a 1×1
  convolution in → r_in, the layer's window on r_in → r_out, a 1×1 convolution r_out → out.
  Kim et al. 2016, arXiv:1511.06530.
- `spatial`, convolutions that are larger than 1 in both directions: W[o, i, y, x] ≈
  Σ_r horizontal[o, r, x] vertical[r, i, y], a kh×1 convolution in → r and a 1×kw one r → out.
  Jaderberg et al. 2014, arXiv:1405.3866.
"""

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from compress.models.factorized_layers import (
    Form,
    admitted,
    empty,
    full_ranks,
    structure,
    unfoldings,
)


def ranks_by_energy(
    layer: nn.Module, form: Form, energy: float, multiple: int = 1
) -> tuple[int, ...]:
    """Return the smallest ranks that keep a fraction of the sum of squared singular values.

    For tucker2 of either unfolding's. Ranks are then rounded to the nearest `multiple` (halves up),
    which is at least one multiple and at most the full rank.

    Raises:
        ValueError: the layer does not admit the form, or `energy` is not in (0, 1].
    """
    _check_fraction("energy", energy)
    weight = admitted(layer, form).weight.detach().to("cpu", torch.float64)
    ranks = []
    for matrix in unfoldings(weight, form):
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        # The Gram matrix has the squared singular values, exact enough in float64 and ten times
        # as fast as the singular values of a large layer.
        squares = torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).flip(0)
        kept = squares.cumsum(0)
        ranks.append(int(torch.searchsorted(kept, energy * kept[-1])) + 1)
    return _rounded(ranks, full_ranks(layer, form), multiple)


def ranks_by_ratio(
    layer: nn.Module, form: Form, ratio: float, multiple: int = 1
) -> tuple[int, ...]:
    """Return the largest ranks, at least 1, with at most `ratio` of the weights (biases apart).

    - svd: r (in + out)
    - tucker2: in r_in + r_in r_out kh kw + r_out out, both ranks the same share of the full ones
    - spatial: r (in kh + out kw)

    Ranks are then rounded to the nearest `multiple` (halves up), which is at least one multiple and
    at most the full rank: rounding up may exceed the ratio.

    Raises:
        ValueError: the layer does not admit the form, or `ratio` is not in (0, 1].
    """
    _check_fraction("ratio", ratio)
    weight = admitted(layer, form).weight
    full = full_ranks(layer, form)
    # Steps so fine that every one of the ranks passes through all its values.
    steps = prod(full)

    def ranks(step: int) -> tuple[int, ...]:
        return tuple(max(1, step * rank // steps) for rank in full)

    def weights(step: int) -> int:
        parameters = structure(layer, form, ranks(step)).parameters()
        return sum(p.numel() for p in parameters if p.dim() > 1)

    within = bisect_right(range(1, steps + 1), ratio * weight.numel(), key=weights)
    return _rounded(ranks(within), full, multiple)


def factorize(layer: nn.Module, form: Form, ranks: Sequence[int]) -> nn.Sequential:
    """Return the factorized layer of `empty` with weights that approximate the layer's.

    svd and spatial are the best approximations of their rank (Eckart–Young), the singular values
    split evenly between both factors; tucker2 is improved from the unfoldings' singular vectors by
    a few rounds of orthogonal iteration. At full ranks the function is the layer's. It is computed
    on the CPU, so that every device gives the same.

    Raises:
        ValueError: the layer does not admit the form, or the ranks are out of range.
    """
    new = empty(layer, form, ranks)
    old = admitted(layer, form)
    # Half precision has no decompositions.
    weight = old.weight.detach().to("cpu", torch.promote_types(old.weight.dtype, torch.float32))
    if form == "tucker2":
        values = _tucker2(weight, ranks)
    else:
        u, s, vh = torch.linalg.svd(unfoldings(weight, form)[0], full_matrices=False)
        roots, rank = s.sqrt(), ranks[0]
        left, right = (u * roots)[:, :rank], (roots[:, None] * vh)[:rank]
        if form == "svd":
            values = [right, left]
        else:
            horizontal = right.reshape(rank, weight.shape[0], -1).transpose(0, 1)
            values = [left.T, horizontal]
    if old.bias is not None:
        values.append(old.bias)
    blank = new.state_dict()
    new.load_state_dict(
        {k: v.reshape(b.shape) for (k, b), v in zip(blank.items(), values, strict=True)}
    )
    return new


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is a fraction above 0 and at most 1, not {value}.")


def _rounded(ranks: Sequence[int], full: Sequence[int], multiple: int) -> tuple[int, ...]:
    nearest = [max(1, (rank + multiple // 2) // multiple) * multiple for rank in ranks]
    return tuple(map(min, nearest, full))


def _tucker2(weight: Tensor, ranks: Sequence[int]) -> list[Tensor]:
    """Return weights of reduce, core and restore."""
    import tensorly  # type: ignore[import-untyped]
    from tensorly.decomposition import partial_tucker  # type: ignore[import-untyped]

    with tensorly.backend_context("numpy", local_threadsafe=True), warnings.catch_warnings():
        # One rank may be more than the other leaves room for; the rest is filled up at random,
        # from a fixed seed, and does no harm. tensorly warns of it, and of a weight that is zero.
        warnings.simplefilter("ignore")
        (core, (restore, reduce)), _ = partial_tucker(
            weight.numpy(),
            rank=[ranks[1], ranks[0]],
            modes=[0, 1],
            n_iter_max=5,  # 15 more gained 0.1 % of the error on 3×3 layers of 64 to 512 channels
            random_state=0,
        )
    return [torch.from_numpy(reduce).T, torch.from_numpy(core), torch.from_numpy(restore)]
