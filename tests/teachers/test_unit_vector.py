"""The VGG16 that ends in a unit vector."""

import torch

from teachers.unit_vector import vgg16_bn

SMALL = {"width": 0.125, "pool": 3, "classifier_width": 16, "hidden_layers": 1}


def test_its_last_map_is_three_cells_wide_without_the_last_pool() -> None:
    images = torch.zeros(2, 3, 48, 48)
    assert vgg16_bn(16, **SMALL).features(images).shape[2:] == (1, 1)
    whole = vgg16_bn(16, **SMALL, last_pool=False).eval()
    assert whole.features(images).shape[2:] == (3, 3)
    torch.testing.assert_close(whole(images).norm(dim=1), torch.ones(2))


def test_weights_have_the_same_names_with_and_without_it() -> None:
    there, without = vgg16_bn(16, **SMALL), vgg16_bn(16, **SMALL, last_pool=False)
    without.load_state_dict(there.state_dict())
    assert list(there.state_dict()) == list(without.state_dict())
    for one, other in zip(there.features[:-1], without.features, strict=True):
        assert type(one) is type(other)
