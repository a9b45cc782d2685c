"""What reaches a module, computed once and stored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.input_spec import InputSpec
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.training.augmentation import draw_views
from compress.training.cached_features import module_inputs
from compress.training.settings import Augmentation, TrainSettings
from compress.utils.errors import UserError

SPEC = InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_a_part_that_something_follows_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.AdaptiveAvgPool2d(1))
    teacher = Candidate(network, "made up", {}, SPEC, Provenance(("made up",)))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="is not the end of the network"):
        module_inputs(
            teacher, "1", TrainSettings(epochs=1), np.arange(2), np.zeros((0, 2, 12), np.float32),
            lambda _: images, tmp_path, torch.device("cpu"), lambda *_: None,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_what_is_trained_afterwards_can_be(tmp_path: Path) -> None:
    """The network is moved, and laid out, on the way: tensors made so must not be for inference."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 6))
    teacher = Candidate(network, "made up", {}, SPEC, Provenance(("made up",)))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    maps = module_inputs(
        teacher, "1", TrainSettings(epochs=1), np.arange(2), np.zeros((0, 2, 12), np.float32),
        lambda _: images, tmp_path, torch.device("cpu"), lambda *_: None,
    )  # fmt: skip
    network.train()[1](torch.from_numpy(maps[0]).float()).sum().backward()
    assert network[1].weight.grad is not None


def test_maps_are_stored_as_the_network_gives_them(tmp_path: Path) -> None:
    """A network that computes channels last gives maps that do not lie in order."""
    torch.manual_seed(0)
    end = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), end).eval()
    teacher = Candidate(network, "made up", {}, SPEC, Provenance(("made up",)))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    views = draw_views(5, Augmentation(), rng)[None]
    settings = TrainSettings(epochs=1, precision="float32")

    def found() -> np.ndarray:
        return module_inputs(
            teacher, "2", settings, np.arange(5), views, lambda _: images, tmp_path,
            torch.device("cpu"), lambda *_: None, batch_size=2,
        )  # fmt: skip

    maps = found()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = network[:2]((pixels - 0.5) / 0.25).numpy()
    assert maps.shape == (2, 5, 4, 6, 6) and maps.dtype == np.float16
    np.testing.assert_allclose(maps[0], expected, atol=2e-3)
    assert not np.array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(found(), maps)  # read back
