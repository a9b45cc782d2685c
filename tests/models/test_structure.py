"""Networks that were changed are built again from their weights."""

import pytest
import torch
from torch import nn

from compress.methods.factorize.decomposition import factorize
from compress.models.factorized_layers import replace
from compress.models.structure import Replaced, reset_weights, restructure


def network(first: int = 32, second: int = 24, third: int = 20) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1),
        nn.BatchNorm2d(first),
        nn.Conv2d(first, first, 3, padding=1, groups=first),
        nn.GroupNorm(2, first),
        nn.Conv2d(first, second, 1, bias=False),
        nn.InstanceNorm2d(second, affine=True, track_running_stats=True),
        nn.Flatten(),
        nn.Linear(second * 16, third),
        nn.LayerNorm(third),
        nn.Linear(third, 5),
    )


def narrowed() -> nn.Sequential:
    return network(10, 7, 6)


def outputs(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.randn(2, 3, 4, 4, generator=generator))
    return found


def rebuilt(saved: nn.Module, *replaced: Replaced) -> nn.Module:
    model = network()
    restructure(model, replaced, saved.state_dict())
    model.load_state_dict(saved.state_dict())
    return model


def test_every_layer_takes_the_shape_of_its_weights() -> None:
    saved = narrowed()
    model = rebuilt(saved)
    assert torch.equal(outputs(model), outputs(saved))
    # What the layers say of themselves, too: exporters and the next step read it.
    assert [repr(m) for m in model] == [repr(m) for m in saved]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_has_not_changed_stays() -> None:
    model = network()
    before = list(model.parameters())
    restructure(model, (), model.state_dict())
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_factors_of_a_narrowed_network() -> None:
    saved = narrowed()
    replace(saved, "0", factorize(saved[0], "tucker2", (2, 3)))
    replace(saved, "7", factorize(saved[7], "svd", (4,)))
    # A factor may be factorized again.
    replace(saved, "0.restore", factorize(saved.get_submodule("0.restore"), "svd", (2,)))
    replaced = (Replaced("0", "tucker2"), Replaced("7", "svd"), Replaced("0.restore", "svd"))
    assert torch.equal(outputs(rebuilt(saved, *replaced)), outputs(saved))


def test_a_batch_norm_without_weights() -> None:
    saved = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, affine=False))
    restructure(model, (), saved.state_dict())
    model.load_state_dict(saved.state_dict())
    assert torch.equal(outputs(model), outputs(saved))


def test_resetting_draws_attention_anew() -> None:
    attention = nn.MultiheadAttention(8, 2)
    before = attention.in_proj_weight.detach().clone()
    reset_weights(nn.Sequential(attention))
    assert not (attention.in_proj_weight == before).any()


def test_resetting_draws_anew() -> None:
    model = network()
    model[1].running_mean.fill_(3.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    reset_weights(model)
    after = model.state_dict()
    for name in ("0.weight", "2.weight", "7.weight", "9.bias"):
        assert not torch.equal(after[name], before[name])
    assert after["0.bias"].eq(0).all() and after["1.running_mean"].eq(0).all()
    # He et al.: variance 2 / (outputs of a channel's window)
    assert float(model[4].weight.detach().std()) == pytest.approx((2 / 24) ** 0.5, rel=0.15)
