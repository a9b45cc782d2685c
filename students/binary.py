"""Binary networks: bodies of signs; first layers, what shrinks maps, and classifiers stay real.

Each is `name(num_classes=1000, …) -> nn.Module` with fresh weights, input (n, 3, height, width),
output logits (n, num_classes). `width` is a factor on all channels; the first layer's are rounded
to a multiple of 8 and all others are multiples of those. With `binary` off it is the float version
of the same network: real convolutions, everything else as it was.
"""

from collections import OrderedDict

from torch import nn

from compress.models.binary_layers import CHANNELS, BinaryBlock

__all__ = ["binary_resnet18", "binary_vgg16", "quicknet_small", "reactnet"]


def binary_resnet18(
    num_classes: int = 1000, width: float = 1.0, binary: bool = True
) -> nn.Sequential:
    """ResNet-18 with a shortcut around every 3 x 3 convolution (Bi-Real Net, arXiv:1808.00278).

    Where the map shrinks the shortcut averages and has a real 1 x 1 convolution. Thresholds and
    activations are learned (ReActNet, arXiv:2003.03488).
    """
    inputs = first = _channels(64, width)
    features: list[nn.Module] = [*_conv_norm(3, first, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for outputs in (first, 2 * first, 4 * first, 8 * first):
        shrinks = outputs // inputs
        features.append(BinaryBlock(inputs, outputs, stride=shrinks, learned_shortcut=True))
        features += [BinaryBlock(outputs, outputs) for _ in range(3)]
        inputs = outputs
    return _network(features, 1, nn.Linear(inputs, num_classes), binary)


def reactnet(num_classes: int = 1000, width: float = 1.0, binary: bool = True) -> nn.Sequential:
    """ReActNet-A (Liu et al. 2020, arXiv:2003.03488): MobileNetV1's body, pairs of binary blocks.

    A pair is a 3 x 3 convolution that keeps the channels and a 1 x 1 one that may double them, its
    shortcut repeating its input: no layer between the first and the classifier is real.
    """
    first = _channels(32, width)
    features = _conv_norm(3, first, 3, 2)
    inputs = first
    pairs = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1)]
    for factor, stride in pairs:
        features.append(BinaryBlock(inputs, inputs, stride=stride))
        features.append(BinaryBlock(inputs, factor * first, kernel=1))
        inputs = factor * first
    return _network(features, 1, nn.Linear(inputs, num_classes), binary)


def quicknet_small(num_classes: int = 1000, binary: bool = True) -> nn.Sequential:
    """QuickNet-small in the spirit of Larq Zoo (Bannink et al. 2020, arXiv:2011.09398).

    Layers and channels are Larq's: a stem that is cheap in real numbers, then sections of residual
    3 x 3 blocks, real 1 x 1 convolutions between them. Otherwise than there, maps are padded with
    zeros, not ones; thresholds are learned and signs scaled; RPReLU follows the sum, instead of a
    ReLU before the norm; and a strided 3 x 3 max pool shrinks maps, instead of ReLU, 2 x 2 max
    pool and blur.
    """
    inputs, *others = 32, 64, 256, 512
    features: list[nn.Module] = [
        *_conv_norm(3, inputs // 4, 3, 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs // 4, inputs // 4, 3, 2, 1, groups=inputs // 4, bias=False),
        nn.BatchNorm2d(inputs // 4, affine=False),  # the next convolution would absorb both
        *_conv_norm(inputs // 4, inputs, 1),
        *[BinaryBlock(inputs, inputs) for _ in range(4)],
    ]
    for outputs in others:
        features += [nn.MaxPool2d(3, 2, 1), *_conv_norm(inputs, outputs, 1)]
        features += [BinaryBlock(outputs, outputs) for _ in range(4)]
        inputs = outputs
    return _network(features, 1, nn.Linear(inputs, num_classes), binary)


def binary_vgg16(
    num_classes: int = 1000,
    pool: int = 1,
    hidden_layers: int = 1,
    classifier_width: int = 512,
    width: float = 1.0,
    binary: bool = True,
) -> nn.Sequential:
    """VGG16 with batch norm (arXiv:1409.1556), all 3 x 3 convolutions but the first binary.

    Shortcuts, which VGG has not, go around each; where channels double they repeat.

    Args:
        pool: side of the map that the classifier sees, in cells.
        hidden_layers: of the classifier; `classifier_width` units each.
    """
    inputs = first = _channels(64, width)
    features = [*_conv_norm(3, first, 3), nn.ReLU(inplace=True)]
    for factor, convolutions in ((1, 1), (2, 2), (4, 3), (8, 3), (8, 3)):
        for _ in range(convolutions):
            features.append(BinaryBlock(inputs, factor * first))
            inputs = factor * first
        features.append(nn.MaxPool2d(2))
    inputs *= pool * pool
    classifier: list[nn.Module] = []
    for _ in range(hidden_layers):
        classifier.append(nn.Linear(inputs, classifier_width, bias=False))
        classifier += [nn.BatchNorm1d(classifier_width), nn.ReLU(inplace=True)]
        inputs = classifier_width
    classifier.append(nn.Linear(inputs, num_classes))
    return _network(features, pool, nn.Sequential(*classifier), binary)


def _channels(channels: int, width: float) -> int:
    return max(1, round(channels * width / CHANNELS)) * CHANNELS


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def _network(
    features: list[nn.Module], pool: int, classifier: nn.Module, binary: bool
) -> nn.Sequential:
    if not binary:
        for block in features:
            if isinstance(block, BinaryBlock):
                _make_real(block)
    parts: dict[str, nn.Module] = {
        "features": nn.Sequential(*features),
        "avgpool": nn.AdaptiveAvgPool2d(pool),
        "flatten": nn.Flatten(),
        "classifier": classifier,
    }
    return nn.Sequential(OrderedDict(parts))


def _make_real(block: BinaryBlock) -> None:
    """A real convolution in the place of the binary one, with its weights."""
    layer = block.conv
    outputs, inputs, kernel, _ = layer.weight.shape
    real = nn.Conv2d(inputs, outputs, kernel, layer.stride, layer.padding, bias=False)
    real.weight = layer.weight
    block.conv = real  # type: ignore[assignment]
