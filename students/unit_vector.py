"""Networks that end in a unit vector, for spaces of identities or words (task `embedding`).

Each is `name(num_classes=128, **settings) -> nn.Module`, where `num_classes` are the numbers of the
vector. Names of weights are torchvision's (but ShuffleNet's `fc`), so that pretrained ones fit.
"""

from typing import Any

from torch import nn

from students import mobilenet, shufflenet
from teachers.unit_vector import UnitVector

__all__ = ["mobilenet_v2", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"]


def mobilenet_v2(num_classes: int = 128, **settings: Any) -> nn.Module:
    """MobileNetV2; settings are torchvision's (`width_mult`)."""
    model = mobilenet.mobilenet_v2(num_classes=num_classes, **settings)
    model.classifier.append(UnitVector())
    return model  # type: ignore[no-any-return]


def shufflenet_v2_x1_0(num_classes: int = 128) -> nn.Module:
    """ShuffleNetV2 of usual width."""
    return _behind_fc(shufflenet.shufflenet_v2_x1_0(num_classes=num_classes))


def shufflenet_v2_x0_5(num_classes: int = 128) -> nn.Module:
    """ShuffleNetV2 of half the width."""
    return _behind_fc(shufflenet.shufflenet_v2_x0_5(num_classes=num_classes))


def _behind_fc(model: nn.Module) -> nn.Module:
    model.fc = nn.Sequential(model.get_submodule("fc"), UnitVector())
    return model
