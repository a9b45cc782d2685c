"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164), torchvision's, every width by its own name.

Each is `name(num_classes=1000) -> nn.Module` with fresh weights, input (n, 3, height, width).
"""

from torchvision.models import (
    shufflenet_v2_x0_5,
    shufflenet_v2_x1_0,
    shufflenet_v2_x1_5,
    shufflenet_v2_x2_0,
)

__all__ = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]
