"""The VGG16 that is fine-tuned from ImageNet's convolutions."""

import torch
from torchvision.models import vgg16 as torchvision_vgg16

from teachers.vgg_pooled import prepare_weights, vgg16_bn


def test_it_begins_as_torchvisions_convolutions() -> None:
    network, given = vgg16_bn(5), torchvision_vgg16(weights=None).eval()
    images = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    tensors = {f"features.{name}": x for name, x in given.features.state_dict().items()}
    network.load_state_dict(prepare_weights(network, tensors, images))
    network.eval()
    with torch.no_grad():
        features = given.features(images).mean((2, 3))
        torch.testing.assert_close(network(images), network.classifier(features))
    assert network.classifier.in_features == 512


def test_a_narrow_one_is_narrow() -> None:
    network = vgg16_bn(3, width=0.1)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert network.classifier.in_features == 51
