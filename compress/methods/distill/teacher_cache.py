"""What the teacher says of a view: computed once and cached, or asked each time.

Cached, a view is its parameters (the bank, drawn from the seed) and the top-k logits; a second
student of the same teacher then runs no teacher at all (as FKD does, Shen & Xing 2021,
arXiv:2112.01528). Logits beyond the top k are replaced by the one value that keeps their sum of
exponentials: at temperature 1 the probabilities of the k are exact (to float16), above it the rest
weighs a little more than it should. With at most top_k classes nothing is left out, and nothing
ever of the coordinates of points (float16 rounds them by a 4000th of the input at most).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.methods.distill.attention import watched
from compress.models.candidate import Candidate
from compress.models.checkpoint import load_tensors, save_tensors
from compress.models.memory_format import laid_out, place
from compress.tasks import task_of
from compress.training.augmentation import apply_views
from compress.training.batches import Batch, Pixels
from compress.training.loop import autocast, named_floats
from compress.training.mixing import Mix
from compress.training.settings import Augmentation
from compress.utils.progress import Progress

FILE = "outputs.safetensors"


@dataclass(frozen=True)
class Largest:
    """The largest numbers of an output along its last axis, of which only these are kept."""

    values: Tensor  # float16 (views, images, …, k), best first
    places: Tensor  # int32 (views, images, …, k), in the output
    rest: Tensor  # float32 (views, images, …): the number that stands for every other one
    size: int  # of the output's last axis

    def __getitem__(self, at: tuple[Tensor, Tensor]) -> Tensor:
        """Return the output, float32 (n, …, size), by views and images (n,)."""
        rest = self.rest[at].unsqueeze(-1)
        full = rest.expand(*rest.shape[:-1], self.size).clone()
        return full.scatter_(-1, self.places[at].long(), self.values[at].float())


@dataclass(frozen=True)
class CachedTeacher:
    """Looks a batch's outputs up by image and view."""

    outputs: Mapping[str, Tensor | Largest]  # whole ones: float16 (views, images, …)
    looks: Tensor | None = None  # float16 (views, images, height, width), of length 1
    sees_mixed: bool = False

    @classmethod
    def load(cls, folder: Path, spec: InputSpec) -> "CachedTeacher":
        """Read what `compute` wrote, or an earlier version of a single output."""
        tensors, _ = load_tensors(folder / FILE)
        looks = tensors.pop("looks", None)
        if "values" in tensors:  # as it was written before outputs had names
            (only,) = spec.outputs
            old = {"values": "values", "classes": "places", "rest": "rest"}
            tensors = {f"{only}.{new}": tensors[name] for name, new in old.items()}
        found: dict[str, Tensor | Largest] = {}
        for name, shape in spec.outputs.items():
            if name in tensors:
                found[name] = tensors[name]
            else:
                parts = {part: tensors[f"{name}.{part}"] for part in ("values", "places", "rest")}
                found[name] = Largest(**parts, size=shape[-1])
        return cls(found, looks)

    def attention(self, batch: Batch) -> Tensor:
        """Where it looks in a batch's images, float32 (n, height, width), each of length 1."""
        assert self.looks is not None, "cached without attention"
        return self.looks[_places(batch)].float().to(batch.inputs.device)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the teacher's outputs for a batch, float32 (n, …)."""
        at, device = _places(batch), batch.inputs.device
        return {name: stored[at].float().to(device) for name, stored in self.outputs.items()}


def _places(batch: Batch) -> tuple[Tensor, Tensor]:
    """Where a batch's views stand in what is cached."""
    return torch.from_numpy(batch.view_numbers), torch.from_numpy(batch.indices)


@dataclass(frozen=True)
class OnlineTeacher:
    """Runs the teacher on the batch's views at its own resolution."""

    teacher: Candidate
    pixels: np.ndarray
    augmentation: Augmentation
    device: torch.device
    precision: str
    layout: torch.memory_format
    sees_mixed: bool = True

    @torch.no_grad()
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the teacher's outputs for a batch, float32 (n, …)."""
        return self.outputs(batch.indices, batch.views, batch.mix)

    def outputs(
        self, indices: np.ndarray, views: np.ndarray, mix: Mix | None = None
    ) -> dict[str, Tensor]:
        """Return the teacher's outputs for images in views of them, float32 (n, …)."""
        inputs = apply_views(
            self.pixels[indices], views, self.teacher.spec, self.device, self.augmentation.erase
        )
        inputs = inputs if mix is None else mix(inputs)
        # The call comes from inside the student's training step, whose precision is its own.
        with autocast(self.device, self.precision):
            given = self.teacher.model(laid_out(inputs, self.layout))
        return named_floats(given, task_of(self.teacher.spec))


def make_online(
    teacher: Candidate,
    pixels: Pixels,
    augmentation: Augmentation,
    device: torch.device,
    precision: str,
) -> OnlineTeacher:
    spec = teacher.spec
    layout = place(teacher.model, device, torch.zeros(2, *spec.shape))
    teacher.model.eval()
    return OnlineTeacher(teacher, pixels(spec), augmentation, device, precision, layout)


@torch.inference_mode()
def compute(
    online: OnlineTeacher,
    data: Dataset,
    bank: np.ndarray,
    pool: np.ndarray,
    top_k: int,
    folder: Path,
    progress: Progress,
    attention: bool = False,
    batch_size: int = 64,
) -> None:
    """Caches the teacher's outputs for every view in `bank` of every image in `pool`; where it
    looks, too, if `attention` is asked for.

    Each finished view is kept in `folder`, so that a killed run loses one view at most.
    """
    spec = online.teacher.spec
    kept = task_of(spec).kept(top_k)
    views: list[dict[str, Tensor]] = []
    with watched(online.teacher) if attention else nullcontext() as watch:
        for number, view in enumerate(bank):
            part = folder / f"view-{number}.safetensors"
            if not part.is_file():
                tensors = _empty(len(data.images), spec, kept)
                if watch:
                    size = (len(data.images), *watch.size)
                    tensors["looks"] = torch.zeros(size, dtype=torch.float16)
                for start in range(0, len(pool), batch_size):
                    indices = pool[start : start + batch_size]
                    at = torch.from_numpy(indices)
                    for name, output in online.outputs(indices, view[indices]).items():
                        for kept_as, found in _parts(name, output.cpu(), kept).items():
                            tensors[kept_as][at] = found
                    if watch:
                        tensors["looks"][at] = watch.attention().cpu().half()
                    done = number * len(pool) + start + len(indices)
                    progress.advance(done, len(bank) * len(pool))
                save_tensors(part, tensors, {})
            views.append(load_tensors(part)[0])
    stacked = {name: torch.stack([view[name] for view in views]) for name in views[0]}
    save_tensors(folder / FILE, stacked, {})
    for number in range(len(bank)):
        (folder / f"view-{number}.safetensors").unlink()


def _empty(images: int, spec: InputSpec, kept: Mapping[str, int]) -> dict[str, Tensor]:
    """Return what one view's outputs are written into, by name or by name and part."""
    made = {}
    for name, shape in spec.outputs.items():
        if name in kept:
            size = (images, *shape[:-1])
            made[f"{name}.values"] = torch.zeros(*size, kept[name], dtype=torch.float16)
            made[f"{name}.places"] = torch.zeros(*size, kept[name], dtype=torch.int32)
            made[f"{name}.rest"] = torch.zeros(size)
        else:
            made[name] = torch.zeros(images, *shape, dtype=torch.float16)
    return made


def _parts(name: str, output: Tensor, kept: Mapping[str, int]) -> dict[str, Tensor]:
    """Return what is kept of an output: all, or its largest numbers, their places and the rest."""
    if name not in kept:
        return {name: output.half()}
    values, order, rest = _compact(output, kept[name])
    return {
        f"{name}.values": values.half(),
        f"{name}.places": order.int(),
        f"{name}.rest": rest,
    }


def _compact(outputs: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest logits, their classes, and the logit that stands for each of the others."""
    values, order = outputs.topk(k, -1)
    others = outputs.shape[-1] - k
    if others == 0:
        return values, order, values[..., -1]
    rest = outputs.scatter(-1, order, -torch.inf).logsumexp(-1) - float(np.log(others))
    return values, order, rest
