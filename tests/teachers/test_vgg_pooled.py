"""The VGG16 that is fine-tuned from ImageNet's convolutions."""

import torch
from torchvision.models import vgg16 as torchvision_vgg16

from teachers.vgg_pooled import vgg16


def test_it_computes_what_torchvisions_convolutions_do() -> None:
    network, wanted = vgg16(5).eval(), torchvision_vgg16(weights=None).eval()
    network.features.load_state_dict(wanted.features.state_dict())
    images = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = wanted.features(images).mean((2, 3))
        torch.testing.assert_close(network(images), network.classifier(features))
    assert network.classifier.in_features == 512


def test_a_narrow_one_is_narrow() -> None:
    network = vgg16(3, width=0.1)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert network.classifier.in_features == 51
