"""torch eager on the CPU: how a model is served by those who deploy the training code."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.models.candidate import Candidate
from compress.models.memory_format import place
from compress.runtimes import Entry
from compress.runtimes.outputs import by_name


def is_detector(model: nn.Module) -> bool:
    """Whether it is one of torchvision's detectors: images in, boxes out."""
    # By name: importing torchvision takes memory and time that are measured.
    return type(getattr(model, "transform", None)).__name__ == "GeneralizedRCNNTransform"


class TorchSession:
    """A candidate's safetensors file, float32, no compilation; channels_last where it runs so."""

    batch_size: int | None = None
    reference: str | None = None

    def __init__(
        self, path: Path, threads: int, allowed: tuple[str, ...], runtime: str = "torch"
    ) -> None:
        """
        Args:
            runtime: "torch-contiguous" leaves weights and images as they are built, channels
                first; "torch-bf16" computes convolutions and matrix products in bfloat16.
        """
        candidate = Candidate.load(path.parent, allowed)
        self.channels: int | None = candidate.spec.shape[0]
        self.image_size = candidate.spec.size
        shape = (None, *candidate.spec.shape)
        self.inputs: tuple[Entry, ...] = (Entry("images", "float32", shape),)
        self.spec: str | None = candidate.spec.model_dump_json()
        self.outputs = tuple(candidate.spec.outputs)
        self.shapes = candidate.spec.outputs
        self.model = candidate.model
        contiguous = runtime == "torch-contiguous"
        self.format = torch.contiguous_format
        if not contiguous:
            example = torch.zeros(1, *candidate.spec.shape)
            self.format = place(self.model, torch.device("cpu"), example)
            self.model.eval()
        self.bfloat16 = runtime == "torch-bf16"
        self.detector = is_detector(self.model)
        self.mean, self.std = (
            torch.tensor(values).reshape(-1, 1, 1)
            for values in (candidate.spec.mean, candidate.spec.std)
        )
        self.threads = threads

    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, float32 (n, …), for the images in the list."""
        (images,) = arrays
        return list(self.run(images).values())

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, float32 (n, …)."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            x = torch.from_numpy(images).contiguous(memory_format=self.format)
            if self.detector:  # it normalises itself what is in [0, 1]
                x = (x * self.std + self.mean).clamp(0, 1)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                outputs = self.model(x)
            # A detector answers a list, one dictionary an image: the first one's boxes stand in.
            if self.detector:
                return {"boxes": np.asarray(outputs[0]["boxes"].float().numpy())}
            found = by_name(outputs, self.shapes)
            return {name: np.asarray(x.float().numpy()) for name, x in found.items()}
        finally:
            torch.set_num_threads(before)
