"""torch eager on the CPU: how a model is served by those who deploy the training code."""

from pathlib import Path

import numpy as np
import torch

from compress.candidate import Candidate


class TorchSession:
    """A candidate's safetensors file, float32, channels_last, no compilation."""

    batch_size: int | None = None

    def __init__(self, path: Path, threads: int, allowed: tuple[str, ...]) -> None:
        candidate = Candidate.load(path.parent, allowed)
        self.picture_size = (candidate.spec.height, candidate.spec.width)
        self.spec: str | None = candidate.spec.model_dump_json()
        self.model = candidate.model
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.threads = threads

    @torch.inference_mode()
    def run(self, pictures: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            x = torch.from_numpy(pictures).contiguous(memory_format=torch.channels_last)
            return np.asarray(self.model(x).float().numpy())
        finally:
            torch.set_num_threads(before)
