"""MobileNetV2 whose map is told in a sentence: a smaller encoder, a smaller decoder.

Names of the encoder's weights are torchvision's, so that pretrained ones fit; the decoder begins
anew (`head: decoder`).
"""

from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2

from teachers.captioner import Captioner, captioner

LAYERS = 14  # of torchvision's 19: up to the map whose sides are a 16th of the image's


def mobilenet_v2(
    num_classes: int,
    steps: int = 16,
    width_mult: float = 1.0,
    units: int = 128,
    embedding: int = 64,
    attention: int = 64,
    dropout: float = 0.2,
) -> Captioner:
    """MobileNetV2 up to its last map of a 16th of the image's sides, and its decoder.

    Args:
        num_classes: words of the vocabulary times `steps`.
        units: of the LSTM; `embedding`: numbers of a word; `attention`: units that compare.
    """
    features = torchvision_mobilenet_v2(weights=None, width_mult=width_mult).features[:LAYERS]
    channels = features[-1].out_channels
    sizes = {"units": units, "embedding": embedding, "attention": attention}
    return captioner(features, channels, num_classes, steps, dropout=dropout, **sizes)
