"""Refuses networks whose answers are probabilities: everything that trains takes logits."""

from dataclasses import replace

import numpy as np
import torch

from compress.metrics.probabilities import scale_of
from compress.models.behind_last_layer import BehindLastLayer
from compress.models.candidate import Candidate
from compress.runtimes.outputs import by_name
from compress.tasks import task_of
from compress.utils.errors import UserError

NOISES, GLARE = 8, 1e3  # a fresh network's sigmoid shows where its images are this strong


def refuse_probabilities(candidate: Candidate, images: np.ndarray) -> None:
    """Refuses a network that ends in a softmax or sigmoid.

    Args:
        images: float32 (n, channels, height, width), prepared.

    Raises:
        UserError: its answers are probabilities.
    """
    task = task_of(candidate.spec)
    logits = task.logits
    if logits is None:
        return
    with torch.inference_mode():
        given = candidate.model.eval()(torch.from_numpy(images))
    answers = by_name(given, candidate.spec.outputs)[logits].float().numpy()
    if scale := scale_of(answers, task.probabilities):
        raise UserError(
            f"{candidate.name} answers with the probabilities of a {scale}, and logits are "
            f"expected: leave the {scale} out at the end of its forward."
        )


def refuse_fresh_probabilities(candidate: Candidate) -> None:
    """The same of a network whose weights nobody trained, which is shown noise.

    A sigmoid may give about 0.5 for every image, however strong: what is behind the last layer is
    asked, too.

    Raises:
        UserError: its answers are probabilities.
    """
    noise = np.random.default_rng(0).standard_normal((NOISES, *candidate.spec.shape))
    refuse_probabilities(candidate, np.concatenate([noise, GLARE * noise]).astype(np.float32))
    behind = BehindLastLayer(candidate.model, candidate.spec.outputs)
    refuse_probabilities(replace(candidate, model=behind), noise.astype(np.float32))
