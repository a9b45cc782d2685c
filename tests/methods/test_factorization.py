"""Factorized layers against the layers themselves and against NumPy's best approximations."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.methods.factorize.decomposition import factorize, ranks_by_energy, ranks_by_ratio
from compress.methods.factorize.step import fault_when_split
from compress.models.factorized_layers import empty, forms, full_ranks, replace


def conv(inputs=4, outputs=6, kernel=3, **settings):
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, kernel, **settings)


def linear(inputs=7, outputs=5, **settings):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, **settings)


LAYERS = {
    "linear": linear(),
    "linear, wide, no bias": linear(3, 8, bias=False),
    "linear, double": linear(dtype=torch.float64),
    "1x1": conv(kernel=1),
    "1x1, strided": conv(kernel=1, stride=2, bias=False),
    "1x1, padded": conv(kernel=1, stride=(2, 3), padding=(1, 2)),
    "1x1, same": conv(kernel=1, padding="same"),
    "3x3": conv(padding=1),
    "3x3, no bias": conv(8, 2, bias=False),
    "3x3, few inputs": conv(1, 12, padding=1),
    "3x3, few outputs": conv(12, 1),
    "strided": conv(stride=(2, 1), padding=(0, 1)),
    "dilated": conv(dilation=(1, 2), padding=(2, 1)),
    "all at once": conv(3, 5, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 3)),
    "rectangular": conv(kernel=(2, 5), padding=(1, 2)),
    "1x3": conv(kernel=(1, 3), padding=(0, 1)),
    "3x1": conv(kernel=(3, 1), stride=(2, 1)),
    "same": conv(kernel=(3, 4), padding="same", dilation=(2, 1)),
    "valid": conv(padding="valid", stride=2),
    "reflected": conv(padding=(2, 1), padding_mode="reflect"),
    "circular": conv(padding=(1, 2), padding_mode="circular", stride=2),
    "replicated": conv(kernel=(5, 3), padding=(2, 1), padding_mode="replicate"),
    "double": conv(dtype=torch.float64),
}
CASES = [(name, form) for name, layer in LAYERS.items() for form in forms(layer)]
by_case = pytest.mark.parametrize(("name", "form"), CASES)

# Ranks are for the shapes that hypothesis draws; the windows above cover the rest.
CONVS = st.builds(
    lambda i, o, kh, kw, seed: seeded(nn.Conv2d(i, o, (kh, kw), bias=False), seed),
    *[st.integers(1, 9)] * 2,
    *[st.integers(1, 4)] * 2,
    st.integers(0, 99),
)
LINEARS = st.builds(
    lambda i, o, seed: seeded(nn.Linear(i, o), seed),
    *[st.integers(1, 20)] * 2,
    st.integers(0, 99),
)
DRAWN = (CONVS | LINEARS).flatmap(
    lambda layer: st.tuples(st.just(layer), st.sampled_from(forms(layer)))
)
FRACTIONS = st.floats(0.001, 1)


def seeded(layer, seed):
    """Weights whose singular values fall, as those of trained layers do."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=layer.weight.shape)
    for axis, size in enumerate(weight.shape):
        scale = rng.permutation(np.exp(-rng.uniform(0, 1) * np.arange(size)))
        weight *= scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    layer.weight.data = torch.from_numpy(weight).float()
    return layer


def images(layer):
    torch.manual_seed(1)
    shape = (2, layer.in_channels, 11, 13) if isinstance(layer, nn.Conv2d) else (2, 3, 7)
    shape = (*shape[:2], layer.in_features) if isinstance(layer, nn.Linear) else shape
    return torch.randn(shape, dtype=layer.weight.dtype)


def matrices(layer, form):
    """The unfoldings written down entry by entry, one for each rank."""
    w = layer.weight.detach().double().numpy()
    if form == "svd":
        return [w.reshape(w.shape[:2])]
    outputs, inputs, kh, kw = w.shape
    if form == "spatial":
        matrix = np.empty((inputs * kh, outputs * kw))
        for o, i, y, x in np.ndindex(w.shape):
            matrix[i * kh + y, o * kw + x] = w[o, i, y, x]
        return [matrix]
    by_input = np.stack([w[:, i].ravel() for i in range(inputs)])
    return [by_input, np.stack([w[o].ravel() for o in range(outputs)])]


def composed(new):
    """The weight (out, in, kh, kw) or (out, in) that the factors multiply to."""
    parts = [p.weight.detach().double().numpy() for p in new]
    if isinstance(new[0], nn.Linear):
        return parts[1] @ parts[0]
    if "vertical" in dict(new.named_children()):
        return np.einsum("rivw,orhx->oivx", *parts)
    if "core" in dict(new.named_children()):
        reduce, core, restore = parts
        return np.einsum("rixy,srhw,oszt->oihw", reduce, core, restore)
    return np.einsum("rihw,orxy->oihw", *parts)


def count(layer, form, ranks):
    """Weights without biases, by the formulas of the papers."""
    w = layer.weight
    if form == "svd":
        return ranks[0] * (w.shape[0] + w.shape[1])
    o, i, kh, kw = w.shape
    if form == "spatial":
        return ranks[0] * (i * kh + o * kw)
    a, b = ranks
    return i * a + a * b * kh * kw + b * o


def test_which_layers_admit_which_forms():
    assert forms(linear()) == forms(conv(kernel=1)) == ("svd",)
    assert forms(conv()) == ("tucker2", "spatial")
    assert forms(conv(kernel=(1, 3))) == forms(conv(kernel=(3, 1))) == ("tucker2",)


@pytest.mark.parametrize(
    "layer",
    [
        conv(4, 6, groups=2),
        conv(4, 4, groups=4),
        nn.ConvTranspose2d(4, 6, 3),
        nn.Conv1d(4, 6, 3),
        nn.BatchNorm2d(4),
        nn.MultiheadAttention(4, 2).out_proj,
        nn.Sequential(linear()),
    ],
)
def test_others_admit_none(layer):
    assert forms(layer) == ()
    with pytest.raises(ValueError, match="admits no form, not svd"):
        factorize(layer, "svd", (1,))


@by_case
def test_full_rank_is_the_layer(name, form):
    layer = LAYERS[name]
    new = factorize(layer, form, full_ranks(layer, form))
    x = images(layer)
    torch.testing.assert_close(new(x), layer(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(DRAWN)
def test_full_rank_is_the_weight(drawn):
    layer, form = drawn
    new = factorize(layer, form, full_ranks(layer, form))
    expected = layer.weight.detach().numpy()
    np.testing.assert_allclose(composed(new), expected, atol=1e-5 * np.abs(expected).max())


@settings(max_examples=100, deadline=None)
@given(DRAWN.filter(lambda drawn: drawn[1] != "tucker2"), st.data())
def test_svd_and_spatial_are_the_best_of_their_rank(drawn, data):
    layer, form = drawn
    rank = data.draw(st.integers(1, full_ranks(layer, form)[0]))
    new = factorize(layer, form, (rank,))
    error = np.linalg.norm(composed(new) - layer.weight.detach().numpy())
    s = np.linalg.svd(matrices(layer, form)[0], compute_uv=False)
    assert error == pytest.approx(np.sqrt((s[rank:] ** 2).sum()), rel=1e-4, abs=1e-5 * s[0])
    first, second = (np.linalg.norm(p.weight.detach().numpy()) for p in new)
    assert first == pytest.approx(second, rel=1e-4), "singular values are split evenly"


@settings(max_examples=60, deadline=None)
@given(CONVS.filter(lambda layer: "tucker2" in forms(layer)), st.data())
def test_tucker2_is_between_the_bounds_of_its_unfoldings(layer, data):
    ranks = [data.draw(st.integers(1, full)) for full in full_ranks(layer, "tucker2")]
    error = np.linalg.norm(
        composed(factorize(layer, "tucker2", ranks)) - layer.weight.numpy(force=True)
    )
    dropped = [
        (np.linalg.svd(m, compute_uv=False)[rank:] ** 2).sum()
        for m, rank in zip(matrices(layer, "tucker2"), ranks, strict=True)
    ]
    slack = 1e-5 * layer.weight.norm().item()
    # De Lathauwer et al. 2000: no approximation beats either unfolding, HOSVD loses at most both.
    assert np.sqrt(max(dropped)) - slack <= error <= np.sqrt(sum(dropped)) + slack


def test_tucker2_is_better_than_its_start():
    layer = conv(16, 16)
    w = layer.weight.detach().double().numpy()
    b, a = (np.linalg.svd(m)[0][:, :5] for m in matrices(layer, "tucker2"))
    hosvd = np.linalg.norm(w - np.einsum("op,iq,pqhw->oihw", a @ a.T, b @ b.T, w))
    error = np.linalg.norm(w - composed(factorize(layer, "tucker2", (5, 5))))
    assert error < 0.999 * hosvd


def test_tucker2_finds_a_weight_of_low_rank():
    rng = np.random.default_rng(0)
    a, b, core = rng.normal(size=(12, 3)), rng.normal(size=(10, 2)), rng.normal(size=(3, 2, 3, 3))
    layer = conv(10, 12, padding=1)
    layer.weight.data = torch.from_numpy(np.einsum("oa,ib,abhw->oihw", a, b, core)).float()
    assert ranks_by_energy(layer, "tucker2", 1 - 1e-9) == (2, 3)
    x = images(layer)
    torch.testing.assert_close(
        factorize(layer, "tucker2", (2, 3))(x), layer(x), rtol=1e-4, atol=1e-3
    )


@by_case
def test_same_weights_every_time_and_no_seeds_spent(name, form):
    layer = LAYERS[name]
    ranks = [1, *full_ranks(layer, form)[1:]]  # tucker2: more outputs than one input has room for
    state = torch.get_rng_state()
    first, second = (factorize(layer, form, ranks).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(v.isfinite().all() for v in first.values())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", forms(conv()))
def test_a_weight_of_zeros(form):
    layer = conv()
    nn.init.zeros_(layer.weight)
    assert set(ranks_by_energy(layer, form, 0.9)) == {1}
    new = factorize(layer, form, full_ranks(layer, form))
    torch.testing.assert_close(new(images(layer)), layer(images(layer)))


@settings(max_examples=150, deadline=None)
@given(DRAWN, FRACTIONS)
def test_energy_ranks_are_the_smallest(drawn, energy):
    layer, form = drawn
    ranks = ranks_by_energy(layer, form, energy)
    for matrix, rank in zip(matrices(layer, form), ranks, strict=True):
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        kept = [squares[:r].sum() / squares.sum() for r in range(len(squares) + 1)]
        assert kept[rank] >= energy - 1e-12
        assert kept[rank - 1] < energy + 1e-12


@settings(max_examples=100, deadline=None)
@given(DRAWN, FRACTIONS, FRACTIONS, st.integers(1, 5))
def test_ranks_grow_with_energy_and_ratio(drawn, one, other, multiple):
    for rule in (ranks_by_energy, ranks_by_ratio):
        low, high = (rule(*drawn, fraction, multiple) for fraction in sorted([one, other]))
        assert all(a <= b for a, b in zip(low, high, strict=True))


@settings(max_examples=150, deadline=None)
@given(DRAWN, FRACTIONS)
def test_ratio_ranks_are_the_largest(drawn, ratio):
    layer, form = drawn
    full = full_ranks(layer, form)
    budget = ratio * layer.weight.numel()
    # Both ranks the same share of the full ones: every share at which one of them steps.
    shares = sorted({Fraction(r, f) for f in full for r in range(1, f + 1)})
    line = [tuple(max(1, int(share * f)) for f in full) for share in shares]
    fitting = [ranks for ranks in line if count(layer, form, ranks) <= budget]
    assert ranks_by_ratio(layer, form, ratio) == (fitting[-1] if fitting else (1,) * len(full))


@settings(max_examples=100, deadline=None)
@given(DRAWN, FRACTIONS, st.integers(2, 8))
def test_multiples(drawn, fraction, multiple):
    layer, form = drawn
    full = full_ranks(layer, form)
    for rule in (ranks_by_energy, ranks_by_ratio):
        exact, rounded = rule(layer, form, fraction), rule(layer, form, fraction, multiple)
        for e, r, f in zip(exact, rounded, full, strict=True):
            assert 1 <= r <= f
            if r < f:
                assert r % multiple == 0
                assert abs(r - e) <= multiple / 2 or r == multiple
    if len(full) == 1 and rounded[0] < full[0]:
        above = (rounded[0] + multiple,)
        assert count(layer, form, above) > fraction * layer.weight.numel()


@by_case
def test_empty_is_the_structure(name, form):
    layer = LAYERS[name]
    for ranks in product(*[{1, f} for f in full_ranks(layer, form)]):
        new, blank = factorize(layer, form, ranks), empty(layer, form, ranks)
        state = {k: v.shape for k, v in new.state_dict().items()}
        assert {k: v.shape for k, v in blank.state_dict().items()} == state
        assert str(blank) == str(new)
        assert {p.dtype for p in blank.parameters()} == {layer.weight.dtype}
        assert count(layer, form, ranks) == sum(v.numel() for v in state.values() if len(v) > 1)
        blank.load_state_dict(new.state_dict())
        assert torch.equal(blank(images(layer)), new(images(layer)))


def test_names_of_the_children():
    names = {
        form: [*empty(layer, form, full_ranks(layer, form)).state_dict()]
        for layer in (linear(bias=False), conv())
        for form in forms(layer)
    }
    assert names == {
        "svd": ["reduce.weight", "restore.weight"],
        "tucker2": ["reduce.weight", "core.weight", "restore.weight", "restore.bias"],
        "spatial": ["vertical.weight", "horizontal.weight", "horizontal.bias"],
    }


def test_empty_needs_no_weights():
    layer = conv(512, 512, device="meta").eval()
    new = empty(layer, "tucker2", (100, 200))
    assert {p.device.type for p in new.parameters()} == {"meta"}
    assert not any(m.training for m in new.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", forms(conv()))
def test_half_precision_is_kept(form, dtype):
    layer = conv().to(dtype)
    new = factorize(layer, form, full_ranks(layer, form))
    assert {p.dtype for p in new.parameters()} == {dtype}
    assert np.abs(composed(new) - layer.weight.detach().double().numpy()).max() < 0.01


def test_factors_can_be_trained():
    layer = conv()
    new = factorize(layer, "tucker2", (2, 3))
    new(images(layer)).sum().backward()
    assert all(p.grad is not None for p in new.parameters())
    assert layer.weight.grad is None and layer.bias.grad is None
    assert new.restore.bias.data_ptr() != layer.bias.data_ptr()


@pytest.mark.parametrize(
    ("form", "ranks"),
    [
        ("tucker2", (4,)),
        ("tucker2", (0, 3)),
        ("tucker2", (5, 3)),
        ("tucker2", (4, 7)),
        ("spatial", (13,)),
        ("spatial", (-1,)),
        ("spatial", (2, 2)),
    ],
)
def test_ranks_out_of_range(form, ranks):
    for function in (empty, factorize):
        with pytest.raises(ValueError, match=rf"The ranks of {form} on Conv2d.* 1 to \d+.*, not"):
            function(conv(), form, ranks)


@pytest.mark.parametrize(
    ("layer", "form"),
    [(linear(), "tucker2"), (conv(), "svd"), (conv(kernel=(1, 3)), "spatial"), (conv(), "cp")],
)
def test_forms_that_are_not_admitted(layer, form):
    for call in (
        lambda: full_ranks(layer, form),
        lambda: ranks_by_energy(layer, form, 0.5),
        lambda: ranks_by_ratio(layer, form, 0.5),
        lambda: empty(layer, form, (1,)),
        lambda: factorize(layer, form, (1,)),
    ):
        with pytest.raises(ValueError, match=f"admits .*, not {form}"):
            call()


@pytest.mark.parametrize("value", [0, -0.5, 1.5, 90, float("nan")])
def test_fractions_out_of_range(value):
    with pytest.raises(ValueError, match=r"energy is a fraction .*, not"):
        ranks_by_energy(linear(), "svd", value)
    with pytest.raises(ValueError, match=r"ratio is a fraction .*, not"):
        ranks_by_ratio(linear(), "svd", value)


def test_replace():
    model = nn.Sequential(conv(), nn.Sequential(nn.ReLU(), conv(6, 2)))
    new = factorize(model[1][1], "spatial", (2,))
    replace(model, "1.1", new)
    assert model[1][1] is new
    assert [*dict(model.named_children())] == ["0", "1"]
    assert "1.1.vertical.weight" in model.state_dict()
    replace(model, "0", nn.Identity())
    assert isinstance(model[0], nn.Identity)
    assert model(torch.randn(1, 6, 8, 8)).shape == (1, 2, 6, 6)


@pytest.mark.parametrize("name", ["", "2", "0.weight", "1.none"])
def test_replace_what_is_not_there(name):
    with pytest.raises(ValueError, match="has no submodule"):
        replace(nn.Sequential(conv(), nn.Sequential()), name, nn.Identity())


class Encoder(nn.Module):
    """A layer of torch's own that reads its weights itself in evaluation mode, and a plain one."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True)
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        return self.last(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def test_a_layer_whose_weight_the_network_reads_itself_stays():
    torch.manual_seed(0)
    model = Encoder().eval()
    example = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        before = model(example)
    for name in ("encoder.linear1", "encoder.linear2"):
        fault = fault_when_split(model, name, "svd", example)
        assert fault == "AttributeError: 'Sequential' object has no attribute 'weight'"
    assert fault_when_split(model, "patches", "tucker2", example) == ""
    assert fault_when_split(model, "last", "svd", example) == ""
    with torch.no_grad():
        assert torch.equal(model(example), before)
