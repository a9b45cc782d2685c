"""The teacher: torchvision's VGG16-BN, and weights carried over exactly."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import vgg16, vgg16_bn

from teachers import vgg

SHARED = Path(__file__).parents[3] / "shared" / "weights"


def test_features_are_torchvisions() -> None:
    ours = vgg.vgg16_bn(num_classes=7, pool=2)
    assert ours.features.state_dict().keys() == vgg16_bn().features.state_dict().keys()
    assert sum(isinstance(m, torch.nn.Conv2d) for m in ours.modules()) == 13
    assert ours.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_by_default_it_is_the_papers() -> None:
    with torch.device("meta"):  # 138 million parameters that nobody needs to fill
        ours, reference = vgg.vgg16_bn(), vgg16_bn()
    linear = [
        [m.weight.shape for m in model.modules() if isinstance(m, torch.nn.Linear)]
        for model in (ours, reference)
    ]
    assert linear[0] == linear[1]


def check_same_function(plain: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, 48, 48) * 60
    before = images.clone()
    model = vgg.vgg16_bn(num_classes=3, pool=1, classifier_width=8)
    model.load_state_dict(vgg.prepare_weights(model, tensors, images))
    assert torch.equal(images, before)
    with torch.no_grad():
        expected = plain.eval()(images)
        got = model.features.eval()(images)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
        # In training, batch statistics of the same images are the same statistics.
        trained = model.features.train()(images)
        torch.testing.assert_close(trained, expected, rtol=1e-2, atol=1e-2 * float(expected.std()))
    norm = model.features[1]
    assert float((norm.running_mean - 0).abs().max()) > 1e-3  # it is the statistics, not identity


def test_weights_without_batch_norm_are_carried_over_exactly() -> None:
    torch.manual_seed(1)
    plain = vgg16().features
    check_same_function(plain, {f"features.{k}": v for k, v in plain.state_dict().items()})


def test_imagenet_convolutions_are_carried_over_exactly() -> None:
    path = SHARED / "vgg16_imagenet_features.safetensors"
    if not path.is_file():
        pytest.skip("the ImageNet convolutions are not here (../shared/weights)")
    tensors = load_file(path)
    plain = vgg16().features
    plain.load_state_dict({k.removeprefix("features."): v.float() for k, v in tensors.items()})
    check_same_function(plain, tensors)


def test_weights_with_batch_norm_are_left_alone() -> None:
    model = vgg.vgg16_bn(num_classes=3, pool=1, classifier_width=8, width=0.1)
    tensors = model.state_dict()
    assert vgg.prepare_weights(model, tensors, torch.zeros(2, 3, 32, 32)) is tensors
