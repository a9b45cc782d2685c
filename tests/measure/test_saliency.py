"""Saliency against what is known: formulas by hand, networks that see one part of the image."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18, shufflenet_v2_x0_5

from compress.data.dataset import Dataset, Sample
from compress.data.input_spec import InputSpec
from compress.export.onnx import export_onnx
from compress.measure.saliency.box_share import area_inside, boxed, looks, share_inside
from compress.measure.saliency.gallery import SIDE, gallery, overlay
from compress.measure.saliency.gradients import deconvolution, grad_cam, last_feature_map
from compress.measure.saliency.occlusion import occlusion, occlusion_of_file, patch_and_stride
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils.errors import UserError
from teachers.vgg import vgg16_bn

CLASSES = ("a", "b", "c")


def images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3, height, width)).astype(np.float32)


def spec_of(height: int, width: int, fit: str = "crop") -> InputSpec:
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return InputSpec(height=height, width=width, fit=fit, classes=CLASSES, **plain)


class Quadrant(nn.Module):
    """Lets only the upper left quarter of what it is given through."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros_like(x)
        mask[:, :, : x.shape[2] // 2, : x.shape[3] // 2] = 1
        return x * mask


class Averaged(nn.Module):
    """Features, averaged over all places, and a positive weight of each for every class."""

    def __init__(self, *features: nn.Module, channels: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Linear(channels, len(CLASSES))
        nn.init.uniform_(self.classifier.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Shares

QUARTERS = st.integers(-8, 40)  # of a pixel of 8: outside of the input, too


@given(
    saliency=arrays(np.float32, (1, 8, 8), elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])),
    edges=st.tuples(QUARTERS, QUARTERS, QUARTERS, QUARTERS),
)
def test_share_inside_counts_parts_of_pixels(
    saliency: np.ndarray, edges: tuple[int, int, int, int]
) -> None:
    left, right = sorted(edges[:2])
    top, bottom = sorted(edges[2:])
    boxes = np.array([[left, top, right, bottom]]) / 32
    fine = np.kron(saliency[0], np.ones((4, 4)))  # each pixel as 4 x 4 quarters
    inside = sum(
        fine[y, x]
        for y in range(max(0, top), min(32, bottom))
        for x in range(max(0, left), min(32, right))
    )
    share = share_inside(saliency, boxes)[0]
    if fine.sum() == 0:
        assert np.isnan(share)
    else:
        assert share == pytest.approx(inside / fine.sum(), abs=1e-12)
    even = share_inside(np.ones((1, 8, 8)), boxes)
    assert area_inside(boxes) == pytest.approx(even, abs=1e-12)


def test_looks_leaves_empty_maps_out_and_agrees_with_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    shares, areas = rng.uniform(0.2, 0.9, 40), rng.uniform(0.1, 0.3, 40)
    found = looks(np.append(shares, np.nan), np.append(areas, 0.9))
    assert found is not None and found.images == 40
    assert found.share_inside.value == pytest.approx(shares.mean())
    assert found.times_even.value == pytest.approx(shares.mean() / areas.mean())
    expected = stats.bootstrap(
        (shares, areas),
        lambda s, a, axis: s.mean(axis) / a.mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    assert found.times_even.low == pytest.approx(expected.low, abs=0.1 * width)
    assert found.times_even.high == pytest.approx(expected.high, abs=0.1 * width)
    assert looks(np.array([0.5, np.nan]), np.array([0.1, 0.1])) is None


def test_boxes_follow_the_image_into_the_input(tmp_path: Path) -> None:
    """Of 80 x 40 pixels a square input shows those from 20 to 60."""
    Image.new("RGB", (80, 40)).save(tmp_path / "wide.png")
    boxes = [(30, 10, 20, 20), (0, 0, 30, 40), (0, 0, 20, 40), (30, 10, 0, 20)]
    columns = ("x", "y", "width", "height")
    annotations = [dict(zip(columns, map(float, box), strict=True)) for box in boxes]
    annotations += [{"x": 3.0, "y": 4.0}, {}]
    data = Dataset(tmp_path, tuple(Sample("wide.png", "a", "train", a) for a in annotations))
    indices, found = boxed(data, np.arange(len(annotations)), spec_of(32, 32))
    assert indices.tolist() == [0, 1]  # the others are cut off, of no area, or not annotated
    assert found.tolist() == [[0.25, 0.25, 0.75, 0.75], [-0.5, 0.0, 0.25, 1.0]]
    assert area_inside(found).tolist() == [0.25, 0.25]
    _, found = boxed(data, np.arange(1), spec_of(32, 32, "stretch"))
    assert found.tolist() == [[0.375, 0.25, 0.625, 0.75]]
    assert boxed(data, np.array([5]), spec_of(32, 32))[1].shape == (0, 4)


# Gradients


def test_grad_cam_is_the_papers_formula() -> None:
    """With an average and a linear layer behind the map, alpha is the linear layer's weight."""
    convolution = nn.Conv2d(3, 6, 3, padding=1)
    network = Averaged(convolution, nn.ReLU())
    nn.init.normal_(network.classifier.weight)
    shown, targets = images(20, 12, 10), np.arange(20) % 3
    with torch.no_grad():
        activations = F.relu(convolution(torch.from_numpy(shown)))
        weights = network.classifier.weight[torch.from_numpy(targets)]
        raw = F.relu((weights[:, :, None, None] * activations).sum(1))
        expected = raw / raw.sum((1, 2), keepdim=True)
    assert grad_cam(network, shown, targets) == pytest.approx(expected.numpy(), abs=1e-6)


def test_grad_cam_of_a_network_that_sees_one_quadrant_lies_in_it() -> None:
    network = Averaged(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), Quadrant())
    maps = grad_cam(network, images(3, 16, 16), np.array([0, 1, 2]))
    assert share_inside(maps, np.tile([0, 0, 0.5, 0.5], (3, 1))) == pytest.approx(1)
    coarse = Averaged(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), Quadrant())
    maps = grad_cam(coarse, images(3, 16, 16), np.array([0, 1, 2]))
    assert maps.shape == (3, 16, 16)  # bilinear: it reaches half a cell further
    assert share_inside(maps, np.tile([0, 0, 0.5625, 0.5625], (3, 1))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: vgg16_bn(3, pool=1, classifier_width=8, width=0.1), "features.42"),
        (lambda: shufflenet_v2_x0_5(num_classes=3), "conv5"),
        (lambda: mobilenet_v3_small(num_classes=3), "features"),
        (lambda: resnet18(num_classes=3), "layer4"),
    ],
)
def test_the_last_feature_map_is_found(make: Callable[[], nn.Module], name: str) -> None:
    """Behind the last activation and shortcut, and before VGG's last pooling."""
    network = make()
    shown = images(1, 64, 64)
    assert last_feature_map(network, shown) is network.get_submodule(name)
    assert not any(module._forward_hooks for module in network.modules())
    maps = grad_cam(network, shown, np.array([1]))
    assert maps.shape == (1, 64, 64) and maps.min() >= 0
    assert maps.sum() == pytest.approx(1, abs=1e-5) or not maps.any()


def test_without_a_feature_map_grad_cam_says_so() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    with pytest.raises(UserError, match=r"no convolution of Sequential .* Use occlusion"):
        grad_cam(linear, images(1, 8, 8), np.array([0]))


def test_deconvolution_goes_back_through_transposed_layers_and_relus() -> None:
    one, two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, stride=2)
    classifier = nn.Linear(5 * 4 * 4, 3)
    network = nn.Sequential(one, nn.ReLU(inplace=True), two, nn.ReLU(), nn.Flatten(), classifier)
    shown, targets = images(3, 9, 9), np.array([2, 0, 1])
    with torch.no_grad():
        back = F.relu(classifier.weight[torch.from_numpy(targets)].reshape(3, 5, 4, 4))
        back = F.relu(F.conv_transpose2d(back, two.weight, stride=2))
        raw = F.conv_transpose2d(back, one.weight, padding=1).abs().sum(1)
        expected = raw / raw.sum((1, 2), keepdim=True)
    assert deconvolution(network, shown, targets) == pytest.approx(expected.numpy(), abs=1e-6)


def test_deconvolution_takes_vgg_and_no_network_with_other_paths() -> None:
    shown, target = images(1, 32, 32), np.array([0])
    vgg = vgg16_bn(3, pool=1, classifier_width=8, width=0.1)
    assert deconvolution(vgg, shown, target).sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match=r"a chain of convolutions and ReLUs.*there is add"):
        deconvolution(resnet18(num_classes=3), shown, target)
    with pytest.raises(UserError, match="Hardswish"):
        deconvolution(mobilenet_v3_small(num_classes=3), shown, target)


# Occlusion


class Linear:
    """A session whose score is a sum over the image."""

    image_size, batch_size, spec = (19, 24), None, None

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def run(self, shown: np.ndarray) -> np.ndarray:
        return np.einsum("nchw,kchw->nk", shown, self.weights).astype(np.float32)


@pytest.mark.parametrize("batch_size", [None, 7])
def test_occlusion_is_the_mean_drop_over_the_patches(batch_size: int | None) -> None:
    session, shown = Linear(images(3, 19, 24, seed=1)), images(2, 19, 24)
    session.batch_size = batch_size
    patch, stride = patch_and_stride(19, 24)
    assert (patch, stride) == (2, 1)
    expected = np.zeros((2, 19, 24))
    for i, target in enumerate((2, 0)):
        away = shown[i] - shown[i].mean((1, 2), keepdims=True)
        worth = (session.weights[target] * away).sum(0)  # what each pixel loses when covered
        for y in range(19):
            for x in range(24):
                drops = [
                    worth[top : top + patch, left : left + patch].sum()
                    for top in range(max(0, y - 1), min(y, 17) + 1)
                    for left in range(max(0, x - 1), min(x, 22) + 1)
                ]
                expected[i, y, x] = max(0, np.mean(drops))
    expected /= expected.sum((1, 2), keepdims=True)
    found = occlusion_of_file(session, shown, np.array([2, 0]), spec_of(19, 24), "logits")
    assert found == pytest.approx(expected, abs=1e-6)


def test_occlusion_of_a_file_is_captums_of_the_network(tmp_path: Path) -> None:
    """At 35 x 50 the last patch of each column is cut off by the edge."""
    network = Averaged(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Tanh())
    candidate = Candidate(network, "test", {}, spec_of(35, 50), Provenance(("test",)))
    export_onnx(candidate, tmp_path / "model.onnx")
    shown, targets = images(3, 35, 50), np.array([1, 2, 0])
    of_file = occlusion_of_file(
        OnnxSession(tmp_path / "model.onnx", 1), shown, targets, candidate.spec, "logits"
    )
    of_network = occlusion(network, shown, targets)
    assert of_file.sum((1, 2)) == pytest.approx(1, abs=1e-5)
    assert of_file == pytest.approx(of_network, abs=1e-3 * float(of_network.max()))


def test_occlusion_of_a_network_that_sees_one_quadrant_lies_in_it() -> None:
    """Patches of 4 pixels, 2 apart: those that still touch it reach 2 pixels further.

    Sums of the numbers chosen are exact, in whatever order: a score that does not change is the
    same in every batch.
    """
    network = Averaged(Quadrant(), nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    shown = np.random.default_rng(0).integers(-8, 9, (2, 3, 32, 32)).astype(np.float32)
    maps = occlusion(network, shown, np.array([0, 1]))
    assert share_inside(maps, np.tile([0, 0, 18 / 32, 18 / 32], (2, 1))) == pytest.approx(1)
    assert (share_inside(maps, np.tile([0, 0, 0.5, 0.5], (2, 1))) > 0.8).all()


# Gallery


def test_the_gallery_is_small_and_shows_where_the_map_is_high() -> None:
    shown = np.full((10, 200, 300, 3), 100, np.uint8)
    maps = np.zeros((10, 200, 300), np.float32)
    maps[:, 50:150, 100:200] = 1e-4
    glowing = overlay(shown[0], maps[0])
    assert glowing[100, 150].tolist() == [255, 190, 0] and glowing[0, 0].tolist() == [60, 60, 60]
    found = gallery(shown, {"occlusion": maps}, np.tile([0.2, 0.2, 0.8, 0.8], (10, 1)))
    assert list(found) == ["picture", "occlusion"]
    assert [len(x) for x in found.values()] == [8, 8]
    for jpeg in (x for layer in found.values() for x in layer):
        assert len(jpeg) < 10_000
        with Image.open(io.BytesIO(base64.b64decode(jpeg, validate=True))) as image:
            assert (image.format, image.size) == ("JPEG", (SIDE, 80))


def test_a_grey_image_is_shown_as_the_same_in_rgb() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 1), dtype=np.uint8)
    maps = np.random.default_rng(1).random((3, 40, 60), dtype=np.float32)
    none = np.empty((0, 4))
    expected = gallery(np.repeat(grey, 3, axis=3), {"occlusion": maps}, none)
    assert gallery(grey, {"occlusion": maps}, none) == expected
