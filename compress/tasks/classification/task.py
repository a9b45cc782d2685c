"""One of several classes for an image: a logit each, right where the largest is its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.dataset import DataSet
from compress.data.image_cache import drop_unreadable
from compress.data.input_spec import InputSpec
from compress.data.layouts import read_folder
from compress.metrics.accuracy import score
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.models.class_names import check_class_names
from compress.results.schema import TOP1, Accuracy, SinglePictureClasses
from compress.tasks.base import Ask, Correct, Task
from compress.utils.errors import UserError
from compress.utils.units import percent

if TYPE_CHECKING:
    from torch import Tensor

TOLD = 5  # most probable classes of an image that are told
Names = list[tuple[str, float]]  # classes and their softmax probabilities, the best first


class Classification(Task[Names]):
    """One of several classes for an image."""

    word = TOP1
    unused_in_script = ("classes", "points")

    def read(self, folder: Path, columns: Sequence[str]) -> tuple[DataSet, list[str]]:
        """Return a folder's images, whose classes are matched with the network's by name."""
        data = drop_unreadable(read_folder(folder), lambda done, total: None)
        unknown = sorted(set(data.classes) - set(self.spec.classes))
        if unknown:
            raise UserError(
                f"{folder} has {len(unknown)} classes that the model does not know "
                f"({', '.join(unknown[:3])}): it was trained on other labels."
            )
        return data, []

    def targets(self, data: DataSet) -> np.ndarray:
        """Return class indices of the network, int64 (n,), -1 where unlabelled."""
        index: dict[str | None, int] = {name: i for i, name in enumerate(self.spec.classes)}
        return np.array([index.get(picture.label, -1) for picture in data.pictures])

    def targets_in_views(self, targets: np.ndarray, views: np.ndarray) -> "Tensor":
        """Return the same classes: a class is the same in every view."""
        import torch

        return torch.from_numpy(targets)

    def check_weights(self, metadata: Mapping[str, Any]) -> InputSpec:
        """Return the spec with the weights' order of classes; refuse others, or points."""
        spec = metadata.get("spec") or {}
        if points := spec.get("points"):
            raise UserError(
                f"The teacher's weights predict the points {', '.join(points)}, the data has "
                "classes: train the last part anew (teacher.train_only)."
            )
        known = metadata.get("classes") or spec.get("classes")
        classes = check_class_names(known, self.spec.classes)
        return self.spec.model_copy(update={"classes": classes})

    def correct(
        self, data: DataSet, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Correct:
        """Return whether the largest logit is that of the image's class."""
        labels = self.targets(data)[indices]
        return lambda outputs: outputs.argmax(1) == labels

    def score(
        self,
        ask: Ask,
        data: DataSet,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return top-1, top-5, log loss, recall, calibration; of a run also slices by rarity."""
        targets = self.targets(data)
        if not in_run:
            return score(ask(indices), targets[indices])
        single_picture, singles = None, data.single_picture_indices
        if len(singles):
            single_picture = SinglePictureClasses(
                pictures=len(singles),
                in_training=int(np.isin(singles, data.indices("train")).sum()),
                top1=float(self.correct(data, singles)(ask(singles)).mean()),
            )
        trained_on = targets[data.indices("train")]
        return score(ask(indices), targets[indices], single_picture, trained_on)

    def guess(self, data: DataSet, tolerance: KeypointTolerance) -> tuple[str, float]:
        """Return the share of the commonest class."""
        labels = self.targets(data)[data.indices("validation")]
        return "the commonest class", float(np.bincount(labels).max() / len(labels))

    @property
    def order_of(self) -> str:
        """Classes are numbered by their names."""
        return "classes"

    def label_loss(self, smoothing: float) -> "Callable[[Tensor, Tensor], Tensor]":
        """Return the cross entropy with the classes."""
        from compress.tasks.classification.losses import cross_entropy

        return lambda outputs, targets: cross_entropy(outputs, targets, smoothing)

    def teacher_loss(self, settings: Any) -> "Callable[[Tensor, Tensor, Tensor], Tensor]":
        """Return kd, dkd or dist."""
        from compress.tasks.classification import losses

        more = settings.model_dump(exclude={"name"})
        if settings.name == "dkd":
            return lambda ours, teachers, targets: losses.dkd(ours, teachers, targets, **more)
        if settings.name == "dist":
            return lambda ours, teachers, _: losses.dist(ours, teachers, **more)
        return lambda ours, teachers, _: losses.kd(ours, teachers, **more)

    def kept_outputs(self, top_k: int) -> int:
        """Return at most `top_k`: what is beyond them is summed up in one number."""
        return min(top_k, len(self.spec.classes))

    def drawn_loss(self, outputs: "Tensor") -> "Tensor":
        """Return the cross entropy with classes drawn by their probabilities."""
        import torch
        import torch.nn.functional as F

        drawn = torch.multinomial(outputs.detach().softmax(1), 1).squeeze(1)
        return F.cross_entropy(outputs, drawn, reduction="sum")

    def answers(self, outputs: np.ndarray, files: Sequence[Path]) -> Iterator[Names]:
        """Yield the most probable classes."""
        for logits in outputs:
            p = np.exp(logits - logits.max())
            p /= p.sum()
            best = np.argsort(-p, kind="stable")[:TOLD]
            yield [(self.spec.classes[i], float(p[i])) for i in best.tolist()]

    def lines(self, answer: Names) -> list[str]:
        """Return a line for each class."""
        return [f"{percent(probability):>7}  {name}" for name, probability in answer]

    def draw(self, file: Path, answer: Names, out: Path) -> None:
        """Refuse: a class is nowhere in the image."""
        raise UserError("--draw is for models of points, and this one predicts classes.")

    def changed_answers(self, stored: np.ndarray, now: np.ndarray) -> int:
        """Return how many have another best class; by value, where two were equally good."""
        rows = np.arange(len(stored))
        return int((stored[rows, now.argmax(1)] < stored.max(1)).sum())

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield how many classes there are, and where they stand."""
        yield "classes", f"{len(self.spec.classes)}, in classes.json"

    @property
    def always(self) -> str:
        """With one of its classes."""
        return f"with one of its {len(self.spec.classes)} classes"

    def beside_script(self) -> Mapping[str, Any]:
        """Return the classes' names."""
        return {"classes.json": self.spec.classes}
