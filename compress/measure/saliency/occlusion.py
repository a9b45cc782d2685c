"""Saliency by covering parts of the image: Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2.

A square patch of the image's mean colour is slid over it. Each place gets the mean drop of the
class's score over the patches that cover it. That needs no gradients, so the deployed file itself
is explained; `occlusion` is captum's, of a network in torch, with the same patches.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from compress.data.input_spec import InputSpec
from compress.measure.saliency.maps import as_maps
from compress.models.sessions import infer
from compress.runtimes import Session

PATCHES = 8  # side by side along the input's shorter side
BATCH = 32

Window = tuple[slice, slice]  # rows, columns


def patch_and_stride(height: int, width: int) -> tuple[int, int]:
    """Side of the patch and the step from one to the next, in pixels: patches overlap by half."""
    patch = max(1, min(height, width) // PATCHES)
    return patch, max(1, patch // 2)


def windows(height: int, width: int) -> list[Window]:
    """Where the patches lie; the last of a row or column may be cut off by the image's edge."""
    patch, stride = patch_and_stride(height, width)

    def along(size: int) -> list[slice]:
        count = -(-(size - patch) // stride) + 1
        return [slice(i * stride, min(i * stride + patch, size)) for i in range(count)]

    return [(rows, columns) for rows in along(height) for columns in along(width)]


def occlusion_of_file(
    session: Session,
    images: np.ndarray,
    targets: np.ndarray,
    spec: InputSpec,
    output: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """What a deployed file's answers rest on; some 225 runs an image.

    Args:
        images: float32 (n, channels, height, width), normalised.
        targets: int64 (n,), the class to explain of each.
        output: the name of that with the classes' scores.
        progress: told how many of how many images are done.

    Returns:
        Maps, float32 (n, height, width).
    """
    height, width = images.shape[2:]
    places = windows(height, width)
    size = session.batch_size or BATCH
    drops = np.zeros((len(images), height, width))
    patches = np.zeros((height, width))  # that cover each pixel
    for place in places:
        patches[place] += 1
    for done, (image, target, drop) in enumerate(
        zip(images, targets.tolist(), drops, strict=True), 1
    ):
        mean = image.mean((1, 2))[:, None, None]
        score = infer(session, image[None], spec)[output][0, target]
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            covered = np.repeat(image[None], len(chunk), axis=0)
            for shown, (rows, columns) in zip(covered, chunk, strict=True):
                shown[:, rows, columns] = mean
            lost = score - infer(session, covered, spec)[output][:, target]
            for place, loss in zip(chunk, lost, strict=True):
                drop[place] += loss
        progress(done, len(images))
    return as_maps(drops / patches)


def occlusion(model: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same of a network in torch, by captum; arguments as for `occlusion_of_file`."""
    from captum.attr import Occlusion  # late: it brings matplotlib, which takes seconds

    channels, height, width = images.shape[1:]
    patch, stride = patch_and_stride(height, width)
    method = Occlusion(model.eval())
    raw = []
    for image, target in zip(torch.from_numpy(images), targets.tolist(), strict=True):
        with torch.no_grad():
            found = method.attribute(
                image[None],
                sliding_window_shapes=(channels, patch, patch),
                strides=(channels, stride, stride),
                baselines=image.mean((1, 2), keepdim=True).expand_as(image)[None],
                target=target,
                perturbations_per_eval=BATCH,
            )
        raw.append(found[0, 0].numpy())  # the patch covers all channels: they are the same
    return as_maps(np.stack(raw))
