"""Networks that vote for points: against a formula of its own, and what they are for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress.data.input_spec import InputSpec
from compress.export.onnx import check_export, export_onnx
from compress.models.candidate import Candidate
from teachers import votes

BUILDERS = (
    votes.vgg16_bn,
    votes.mobilenet_v2,
    votes.mobilenet_v3_small,
    votes.shufflenet_v2_x1_0,
)


def told(channels, points):
    """Votes of a map that is given, not computed."""
    torch.manual_seed(0)
    model = votes.Voting(nn.Identity(), channels, points)
    nn.init.normal_(model.votes.weight)
    nn.init.normal_(model.votes.bias)
    return model.double().eval()


@settings(max_examples=30)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    points=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_answer_is_the_mean_of_the_votes(height, width, points, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, 5, height, width))
    model = told(5, points)
    weight = model.votes.weight.detach().numpy()[:, :, 0, 0]
    bias = model.votes.bias.detach().numpy()
    expected = np.zeros((2, points, 2))
    for n in range(2):
        for p in range(points):
            total = 0.0
            for row in range(height):
                for column in range(width):
                    said = weight @ features[n, :, row, column] + bias
                    sure = np.exp(said[p])
                    total += sure
                    expected[n, p, 0] += sure * ((column + 0.5) / width + said[points + p])
                    expected[n, p, 1] += sure * ((row + 0.5) / height + said[2 * points + p])
            expected[n, p] /= total
    with torch.no_grad():
        found = model(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-5, atol=1e-6)


def test_what_is_a_place_further_is_found_a_place_further():
    model = told(3, 2)
    features = torch.zeros(2, 3, 4, 5, dtype=torch.double)
    features[0, :, 1, 1] = features[1, :, 2, 3] = torch.tensor([40.0, -40.0, 40.0])
    with torch.no_grad():
        model.votes.weight[:2] = (
            model.votes.weight[:2].abs() * torch.tensor([1, -1, 1])[None, :, None, None]
        )  # surest where the peak is
        first, second = model(features).reshape(2, 2, 2)
    np.testing.assert_allclose((second - first).numpy(), [[2 / 5, 1 / 4]] * 2, atol=1e-9)


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_fresh_networks_point_at_the_middle_at_any_size(builder):
    torch.manual_seed(0)
    model = builder(6).eval()
    for size in (64, 96):
        with torch.no_grad():
            found = model(torch.randn(2, 3, size, size))
        np.testing.assert_allclose(found.numpy(), np.full((2, 6), 0.5), atol=0.05)


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda b: b.__name__)
def test_the_exported_file_equals_the_network(builder, tmp_path):
    spec = InputSpec(
        height=64, width=64, mean=(0.5,) * 3, std=(0.2,) * 3, points=("tip", "tail"), fit="stretch"
    )
    candidate = Candidate.create(f"teachers.votes:{builder.__name__}", {}, spec, ("x",), 0, ())
    nn.init.normal_(candidate.model.votes.weight, std=0.1)
    with torch.no_grad():  # fresh batch norms leave nearly nothing of what differs in images
        for _ in range(30):
            candidate.model.train()(torch.randn(8, 3, 64, 64))
    candidate.model.eval()
    export_onnx(candidate, tmp_path / "model.onnx")
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, 3, 64, 64)).astype(np.float32)
        assert check_export(candidate, tmp_path / "model.onnx", images) < 1e-4


def test_a_spot_is_found_where_none_was_in_training():
    torch.manual_seed(0)
    model = votes.vgg16_bn(2, width=0.07)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)

    def spots(places):
        images = torch.randn(len(places), 3, 64, 64) * 0.1
        for image, (x, y) in zip(images, places.tolist(), strict=True):
            image[:, y - 4 : y + 4, x - 4 : x + 4] += 2
        return images, places / 64

    for _ in range(120):  # in three quarters of the image
        places = torch.randint(4, 60, (32, 2))
        places[(places > 32).all(1)] -= 28
        images, true = spots(places)
        loss = (model(images) - true).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        images, true = spots(torch.randint(36, 56, (32, 2)))
        far = (model.eval()(images) - true).abs().mean()
    assert float(far) < 0.08, far  # a network that answers with a mean place is 0.2 off
