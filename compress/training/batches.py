"""Gives a training loop its batches in a seeded order: augmented images, or cached features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.data.image_cache import Decoded
from compress.data.input_spec import InputSpec, normalise
from compress.tasks import task_of
from compress.tasks.base import Judge, Task
from compress.training.augmentation import (
    apply_views,
    draw_views,
    normalise_pixels,
    to_pixels,
)
from compress.training.mixing import Mix
from compress.training.settings import Augmentation, TrainSettings
from compress.utils.seeding import generator

Pixels = Callable[[InputSpec], np.ndarray]  # uint8 (n, height, width, channels), RGB or grey
VALIDATION_BATCH = 64
SOME_IMAGES = 64  # that a builder which converts weights is shown


@dataclass(frozen=True)
class Batch:
    """One step's images; `indices` and `views` say which, so that cached outputs can be found."""

    inputs: Tensor  # float32 (n, channels, height, width), or features (n, ...)
    targets: Tensor  # what the task wants answered in these views
    indices: np.ndarray  # int64 (n,), positions in the dataset
    view_numbers: np.ndarray  # int64 (n,), rows of the bank; all 0 for fresh views
    views: np.ndarray  # float32 (n, fields)
    mix: Mix | None = None  # how the network is shown its images; `inputs` are not mixed yet

    def parts(self) -> tuple["Batch", "Batch"]:
        """Return the images and their partners, as two batches that are not mixed."""
        assert self.mix is not None
        order = self.mix.order
        there = torch.from_numpy(order).to(self.targets.device)
        partners = replace(
            self,
            targets=self.targets[there],
            indices=self.indices[order],
            view_numbers=self.view_numbers[order],
            views=self.views[order] if len(self.views) else self.views,
            mix=None,
        )
        return replace(self, mix=None), partners


def some_images(data: Dataset, pixels: Decoded, spec: InputSpec) -> Tensor:
    """Return the first of the training images, normalised (n, channels, height, width)."""
    first = data.indices("train")[:SOME_IMAGES]
    return torch.from_numpy(normalise(pixels.of(first, spec), spec))


class Feed(Protocol):
    """What the training loop needs; asked for the same epoch again, it gives the same batches.

    Epochs are counted from the first that any step has trained (`TrainSettings.epochs_before`).
    """

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def task(self) -> Task[Any]: ...
    @property
    def device(self) -> torch.device: ...
    def batches(self, epoch: int) -> Iterator[Batch]: ...
    def validation(self, epoch: int) -> Iterator[tuple[Tensor, Judge]]:
        """Inputs of the validation split at the size of that epoch, and what judges the answers."""


def draw_bank(count: int, images: int, settings: Augmentation, seed: int) -> np.ndarray:
    """A fixed bank of views, float32 (count, images, fields), the same for the same seed."""
    rng = generator(seed, "view bank", count, images)
    drawn = draw_views(count * images, settings, rng)
    return drawn.reshape(count, images, -1)


def draw_order(pool: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` positions of the pool in random order, each as often as any other (give or take)."""
    rounds = -(-count // len(pool))
    return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]


@dataclass(frozen=True)
class ImageFeed:
    """Augmented views of `pool` (positions in the dataset), `images_per_epoch` an epoch.

    With a `bank` of views, epoch e shows view e modulo their number; without one, every epoch draws
    fresh views. An incomplete last batch is left out. A fixed share of each batch may be of images
    that lie beside the pool: these do not count.
    """

    data: Dataset
    pixels: Pixels
    spec: InputSpec
    settings: TrainSettings
    pool: np.ndarray
    images_per_epoch: int
    seed: int
    device: torch.device
    bank: np.ndarray | None = None
    beside: np.ndarray | None = None  # positions of further images, in each batch
    beside_share: float = 0.0  # of a batch; `images_per_epoch` does not count them

    @property
    def task(self) -> Task[Any]:
        return task_of(self.spec)

    @property
    def batch_size(self) -> int:
        most = round(self.images_per_epoch / (1 - self.beside_share))
        return min(self.settings.batch_size, most)

    @property
    def _of_pool(self) -> int:
        """Images of a batch that are of the pool: at least one, as of those beside it."""
        if self.beside is None:
            return self.batch_size
        beside = round(self.beside_share * self.batch_size)
        return self.batch_size - min(max(beside, 1), self.batch_size - 1)

    @property
    def steps(self) -> int:
        return self.images_per_epoch // self._of_pool

    def spec_of(self, epoch: int) -> InputSpec:
        """The input of an epoch: its size may be another (progressive resizing)."""
        epoch -= self.settings.epochs_before
        for phase in self.settings.progressive:
            if epoch < phase.epochs:
                return self.spec.at(phase.image_size)
            epoch -= phase.epochs
        own = self.settings.image_size
        return self.spec if own is None else self.spec.at(own)

    def _is_early(self, epoch: int) -> bool:
        """Whether the epoch is of a phase of progressive resizing."""
        own = epoch - self.settings.epochs_before
        return own < sum(phase.epochs for phase in self.settings.progressive)

    def batches(self, epoch: int) -> Iterator[Batch]:
        rng = generator(self.seed, "epoch", epoch)
        order = draw_order(self.pool, self.images_per_epoch, rng)
        own, others = self._of_pool, self.batch_size - self._of_pool
        if self.beside is not None:
            order_beside = draw_order(self.beside, self.steps * others, rng)
        spec, augmentation = self.spec_of(epoch), self.settings.augmentation
        pixels = self.pixels(spec)
        task = task_of(spec)
        targets = task.targets(self.data)
        for step in range(self.steps):
            indices = order[step * own : (step + 1) * own]
            if self.beside is not None:
                further = order_beside[step * others : (step + 1) * others]
                indices = np.concatenate([indices, further])
            if self.bank is None:
                numbers = np.zeros(len(indices), dtype=np.int64)
                views = draw_views(len(indices), augmentation, rng)
            else:
                numbers = np.full(len(indices), epoch % len(self.bank))
                views = self.bank[numbers, indices]
            yield Batch(
                apply_views(pixels[indices], views, spec, self.device, augmentation.erase),
                task.targets_in_views(targets[indices], views).to(self.device),
                indices,
                numbers,
                views,
            )

    def validation(self, epoch: int) -> Iterator[tuple[Tensor, Judge]]:
        trained_at = self.settings.image_size is None or self._is_early(epoch)
        spec = self.spec_of(epoch) if trained_at else self.spec
        indices = self.data.indices(self.data.watched)
        pixels = self.pixels(spec)
        for start in range(0, len(indices), VALIDATION_BATCH):
            chunk = indices[start : start + VALIDATION_BATCH]
            inputs = normalise_pixels(to_pixels(pixels[chunk], self.device), spec)
            yield inputs, task_of(spec).judge(self.data, chunk)


@dataclass(frozen=True)
class FeatureFeed:
    """Features of stored views, computed once: trains the end of a network in minutes."""

    features: np.ndarray  # float16 (views, images, ...); view 0 is the image as it is
    targets: np.ndarray  # (views, images, ...)
    pool: np.ndarray
    validation_indices: np.ndarray
    validation_judge: Judge
    task: Task[Any]
    seed: int
    device: torch.device
    max_batch_size: int

    @property
    def batch_size(self) -> int:
        return min(self.max_batch_size, len(self.pool))

    @property
    def steps(self) -> int:
        return len(self.pool) // self.batch_size

    def _inputs(self, views: np.ndarray, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(self.features[views, indices]).float().to(self.device)

    def batches(self, epoch: int) -> Iterator[Batch]:
        rng = generator(self.seed, "epoch", epoch)
        order = draw_order(self.pool, len(self.pool), rng)
        for step in range(self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            views = rng.integers(len(self.features), size=len(indices))
            targets = torch.from_numpy(self.targets[views, indices]).to(self.device)
            yield Batch(self._inputs(views, indices), targets, indices, views, np.empty(0))

    def validation(self, epoch: int) -> Iterator[tuple[Tensor, Judge]]:
        indices = self.validation_indices
        yield self._inputs(np.zeros_like(indices), indices), self.validation_judge
