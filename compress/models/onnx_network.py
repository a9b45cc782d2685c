"""An ONNX file in the place of a torch network: it can be asked, and it cannot be changed."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.runtimes.onnxruntime import OnnxSession

BUILDER = "onnx"  # of a candidate whose network is the file that it deploys


class OnnxNetwork(nn.Module):
    """float32 images (n, 3, height, width) to the file's outputs, float32; has no weights."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @cached_property
    def session(self) -> OnnxSession:
        """Loaded when it is first asked: some only want the file."""
        return OnnxSession(self.path, torch.get_num_threads())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs by the file's names."""
        asked = images.detach().float().cpu().contiguous().numpy()
        given = self.session.run(asked)
        return {name: torch.from_numpy(x).to(images.device) for name, x in given.items()}
