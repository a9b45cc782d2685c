"""One of several classes for an image: a logit each, right where the largest is its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.data.layouts import check_classes, read_folder
from compress.data.mirrored_views import MIRROR, NEW_CLASS
from compress.metrics.accuracy import score
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.metrics.probabilities import probabilities_of
from compress.models.class_names import check_class_names
from compress.results.schema import TOP1, Accuracy, SingleImageClasses
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Ask, Judge, Source, Task, TensorOutputs
from compress.tasks.classification.settings import DIST, DKD, KD
from compress.utils.errors import UserError
from compress.utils.units import percent

if TYPE_CHECKING:
    from torch import Tensor

TOLD = 5  # most probable classes of an image that are told
Names = list[tuple[str, float]]  # classes and their softmax probabilities, the best first


class Classification(Task[Names]):
    """One of several classes for an image."""

    name = "classification"
    word = TOP1
    right_or_wrong = True
    losses = (KD, DKD, DIST)
    trains_with = ("mixup", "cutmix", "label_smoothing", "mirror", "margin")
    order_of = "classes"  # they are numbered by their names
    explained = "logits"
    logits = "logits"

    @classmethod
    def read(cls, source: Source, settings: Any) -> Dataset:
        """Return images with labels, in class folders or a table."""
        data = read_folder(source.path, source.image_column, source.label_column)
        check_classes(data)
        return data

    @classmethod
    def predicts(cls, data: Dataset) -> dict[str, Any]:
        """Return the classes."""
        return {"classes": data.classes}

    def read_more(self, folder: Path, columns: Sequence[str]) -> Dataset:
        """Return a folder's images, whose classes are matched with the network's by name."""
        data = read_folder(folder)
        unknown = sorted(set(data.classes) - set(self.spec.classes))
        if unknown:
            raise UserError(
                f"{folder} has {len(unknown)} classes that the model does not know "
                f"({', '.join(unknown[:3])}): it was trained on other labels."
            )
        return data

    def targets(self, data: Dataset) -> np.ndarray:
        """Return class indices of the network, int64 (n,), -1 where unlabelled."""
        index: dict[str | None, int] = {name: i for i, name in enumerate(self.spec.classes)}
        return np.array([index.get(image.label, -1) for image in data.images])

    def targets_in_views(self, targets: np.ndarray, views: np.ndarray) -> "Tensor":
        """Return the classes; those of images whose mirror image is another come after all."""
        import torch

        moved = (views[:, MIRROR] == NEW_CLASS) & (targets >= 0)
        return torch.from_numpy(targets + moved * len(self.spec.classes))

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

    def same_outputs(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether weights name the same classes in the same order."""
        known = metadata.get("classes") or (metadata.get("spec") or {}).get("classes")
        return known == list(self.spec.classes)

    def judge(
        self, data: Dataset, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Judge:
        """Return whether the largest logit is that of the image's class."""
        labels = self.targets(data)[indices]
        return lambda outputs: (outputs["logits"].argmax(1) == labels).tolist()

    def score(
        self,
        ask: Ask,
        data: Dataset,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return top-1, top-5, log loss, recall, calibration; of a run also slices by rarity."""
        targets = self.targets(data)
        if not in_run:
            return score(ask(indices)["logits"], targets[indices])
        single_image, singles = None, data.single_image_indices
        if len(singles):
            single_image = SingleImageClasses(
                images=len(singles),
                in_training=int(np.isin(singles, data.indices("train")).sum()),
                top1=float(np.mean(self.judge(data, singles)(ask(singles)))),
            )
        trained_on = targets[data.indices("train")]
        return score(ask(indices)["logits"], targets[indices], single_image, trained_on)

    def guess(self, data: Dataset, tolerance: KeypointTolerance) -> tuple[str, float]:
        """Return the share of the commonest class."""
        labels = self.targets(data)[data.indices("validation")]
        return "the commonest class", float(np.bincount(labels).max() / len(labels))

    def label_loss(self, smoothing: float) -> "Callable[[TensorOutputs, Tensor], Tensor]":
        """Return the cross entropy with the classes."""
        from compress.tasks.classification.losses import cross_entropy

        return lambda outputs, targets: cross_entropy(outputs["logits"], targets, smoothing)

    def teacher_loss(
        self, settings: Any
    ) -> "Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]":
        """Return kd, dkd or dist."""
        from compress.tasks.classification import losses

        more = settings.model_dump(exclude={"name"})

        def loss(ours: TensorOutputs, teachers: TensorOutputs, targets: "Tensor") -> "Tensor":
            student, teacher = ours["logits"], teachers["logits"]
            if settings.name == "dkd":
                return losses.dkd(student, teacher, targets, **more)
            return (losses.dist if settings.name == "dist" else losses.kd)(student, teacher, **more)

        return loss

    def kept(self, top_k: int) -> Mapping[str, int]:
        """Return at most `top_k` logits: what is beyond them is summed up in one number."""
        return {"logits": min(top_k, len(self.spec.classes))}

    def drawn_loss(self, outputs: TensorOutputs) -> "Tensor":
        """Return the cross entropy with classes drawn by their probabilities."""
        import torch
        import torch.nn.functional as F

        logits = outputs["logits"]
        drawn = torch.multinomial(logits.detach().softmax(1), 1).squeeze(1)
        return F.cross_entropy(logits, drawn, reduction="sum")

    def answers(self, outputs: Outputs, images: Sequence[Path]) -> Iterator[Names]:
        """Yield the classes, the most probable first."""
        for p in probabilities_of(outputs["logits"], "softmax"):
            best = np.argsort(-p, kind="stable")
            yield [(self.spec.classes[i], float(p[i])) for i in best.tolist()]

    def first(self, answer: Names, top: int | None) -> Names:
        """Return the most probable classes."""
        return answer[: top or TOLD]

    def rows(self, answer: Names) -> list[dict[str, Any]]:
        """Return a row for each class."""
        return [
            {"rank": rank, "class": name, "probability": probability}
            for rank, (name, probability) in enumerate(answer, 1)
        ]

    def lines(self, answer: Names) -> list[str]:
        """Return a line for each class."""
        return [f"{percent(probability):>7}  {name}" for name, probability in answer]

    def changed_answers(self, stored: Outputs, now: Outputs) -> int:
        """Return how many have another best class; by value, where two were equally good."""
        before = stored["logits"]
        best = now["logits"].argmax(1)
        return int((before[np.arange(len(before)), best] < before.max(1)).sum())

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield how many classes there are, and where they stand."""
        yield "classes", f"{len(self.spec.classes)}, in classes.json"

    @property
    def always(self) -> str:
        """With one of its classes."""
        return f"with one of its {len(self.spec.classes)} classes"

    def beside_script(self) -> Mapping[str, Any]:
        """Return the classes' names."""
        return {"classes.json": self.spec.classes}
