"""MobileNetV2 (arXiv:1801.04381) and V3 (arXiv:1905.02244), torchvision's, by their own names.

Each is `name(num_classes=1000, **settings) -> nn.Module` with fresh weights, input
(n, 3, height, width). MobileNetV2's width is the setting `width_mult` (0.35, 0.5, 0.75, 1.0, 1.4).
"""

from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

__all__ = ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
