"""VGG16 with batch norm at full width, the teacher. Simonyan & Zisserman 2014, arXiv:1409.1556."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import vgg16_bn as torchvision_vgg16_bn


class VGG(nn.Module):
    """torchvision's 13 convolutions (`features`), average pooling, and fully connected layers."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential, pool: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = classifier

    def forward(self, pictures: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(pictures)))  # type: ignore[no-any-return]


def vgg16_bn(
    num_classes: int = 1000,
    pool: int = 7,
    classifier_width: int = 4096,
    hidden_layers: int = 2,
    dropout: float = 0.5,
    input_dropout: float = 0.0,
    width: float = 1.0,
) -> VGG:
    """VGG16-BN.

    Args:
        pool: side of the map that the classifier sees, in cells.
        classifier_width: units of each hidden layer of the classifier.
        hidden_layers: of the classifier, at least 1; the paper's has two.
        dropout: behind each hidden layer; `input_dropout`: before the first.
        width: factor on all channels of the convolutions; 1 is the full network.
    """
    features = torchvision_vgg16_bn(weights=None).features if width == 1 else _narrow(width)
    channels = [m.num_features for m in features if isinstance(m, nn.BatchNorm2d)][-1]
    layers: list[nn.Module] = [nn.Sequential(nn.Flatten(), nn.Dropout(input_dropout))]
    inputs = channels * pool * pool
    for _ in range(hidden_layers):
        layers.append(nn.Linear(inputs, classifier_width))
        layers.append(nn.BatchNorm1d(classifier_width))
        layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Dropout(dropout))
        inputs = classifier_width
    layers.append(nn.Linear(inputs, num_classes))
    return VGG(features, nn.Sequential(*layers), pool)


def _narrow(width: float) -> nn.Sequential:
    from torchvision.models.vgg import cfgs, make_layers

    narrow: list[str | int] = [
        c if isinstance(c, str) else max(8, round(c * width)) for c in cfgs["D"]
    ]
    layers: nn.Sequential = make_layers(narrow, batch_norm=True)
    return layers


def prepare_weights(model: VGG, tensors: dict[str, Tensor], pictures: Tensor) -> dict[str, Tensor]:
    """Makes weights that were trained without batch norm fit, computing the same function.

    `compress` calls this with what a weights file holds before it loads the weights. The weights
    of `torchvision.models.vgg16` have 13 convolutions with biases and no batch norm: those are
    carried over, each batch norm's statistics are measured on `pictures` (n, 3, height, width,
    normalised) and its scale and shift set so that it changes nothing. A classifier of another
    shape keeps its fresh weights.

    Returns:
        A whole state dict for `model`; `tensors` itself when it has batch norm already.
    """
    convolutions = [n for n, m in model.features.named_children() if isinstance(m, nn.Conv2d)]
    source = _plain_convolutions(tensors)
    if source is None or len(source) != len(convolutions):
        return tensors
    state = model.state_dict()
    for name, (weight, bias) in zip(convolutions, source, strict=True):
        if state[f"features.{name}.weight"].shape != weight.shape:
            return tensors  # the loader names the shapes that differ
        state[f"features.{name}.weight"] = weight.float()
        state[f"features.{name}.bias"] = bias.float()
    model.load_state_dict(state)
    _neutral_batch_norms(model.features, pictures)
    return model.state_dict()


def _plain_convolutions(tensors: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]] | None:
    """Weights and biases of `features` in order; None if there are batch norms among them."""
    if any("running_mean" in name for name in tensors):
        return None
    numbers = sorted(
        int(m[1]) for n in tensors if (m := re.fullmatch(r"features\.(\d+)\.weight", n))
    )
    if any(f"features.{n}.bias" not in tensors for n in numbers):
        return None
    return [(tensors[f"features.{n}.weight"], tensors[f"features.{n}.bias"]) for n in numbers]


@torch.no_grad()
def _neutral_batch_norms(features: Sequence[nn.Module] | nn.Sequential, pictures: Tensor) -> None:
    """Gives each batch norm its input's statistics as both running statistics and scale/shift."""
    x = pictures
    for layer in features:
        if isinstance(layer, nn.BatchNorm2d):
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
            layer.weight.copy_((variance + layer.eps).sqrt())
            layer.bias.copy_(mean)
        elif isinstance(layer, nn.ReLU):
            x = torch.relu(x)  # not in place: `pictures` is the caller's
        else:
            x = layer(x)
