"""Several labels an image: a logit each, said where it is above the label's own threshold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec, Shape
from compress.data.layouts import read_rows
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.metrics.probabilities import probabilities_of
from compress.metrics.resampling import interval
from compress.models.class_names import check_class_names
from compress.results.schema import Accuracy, Metric
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Ask, Judge, Source, Task, TensorOutputs
from compress.tasks.multilabel.labels import (
    SHOWN,
    names_in,
    take_labels,
    truths,
    without_positive,
)
from compress.tasks.multilabel.scores import best_threshold, f1, mean_average_precision
from compress.tasks.multilabel.settings import BinaryKD, Labels
from compress.utils.errors import UserError
from compress.utils.units import percent

if TYPE_CHECKING:
    from torch import Tensor

PRECISION = "mean average precision %"
Names = list[tuple[str, float]]  # the labels said and their probabilities, the most probable first


class Multilabel(Task[Names]):
    """Which of several labels an image has; each may be unknown of an image."""

    name = "multilabel"
    word = "mean F1"
    settings = Labels
    losses = (BinaryKD,)
    trains_with = ("mixup", "cutmix", "label_smoothing", "mirror: same")
    order_of = "labels"
    explained = "logits"
    logits = "logits"
    probabilities = "sigmoid"

    @classmethod
    def read(cls, source: Source, settings: Labels) -> Dataset:
        """Return images with their labels, from a table."""
        if source.label_column is not None:
            raise UserError(
                "data.label_column is for one class an image: give "
                "data.task.multilabel.label_column, with a separator."
            )
        return take_labels(read_rows(source.path, source.image_column), settings)

    @classmethod
    def checked(cls, data: Dataset, note: Callable[[str], None]) -> Dataset:
        """Say which labels no image has: of the splits, where they are given."""
        drawn_later = not len(data.indices("train"))
        missing = without_positive(data) if drawn_later else without_positive(data, "train")
        if missing:
            which = "" if drawn_later else "training "
            note(f"no {which}image has {_listed(missing)}: nothing can be learned of that")
        return data

    @classmethod
    def likely_outputs(cls, settings: Labels) -> int:
        """Return the number of labels, where the recipe names them."""
        return len(settings.labels or ()) or 2

    @classmethod
    def outputs(cls, data: Dataset) -> dict[str, Shape]:
        """Return a logit for each label."""
        return {"logits": (len(names_in(data)),)}

    @classmethod
    def facts(cls, data: Dataset) -> dict[str, Any]:
        """Return the labels, and those of them that no training image has."""
        trained = len(data.indices("train")) > 0
        missing = without_positive(data, "train") if trained else []
        return {"labels": list(names_in(data)), "not_in_training": missing}

    @property
    def _labels(self) -> tuple[str, ...]:
        return tuple(self._predicted.facts["labels"])

    @property
    def _thresholds(self) -> np.ndarray:
        """Logits above which labels are said, float64 (labels,); before any are fitted, 0."""
        fitted = self._predicted.fitted
        return np.zeros(len(self._labels)) if fitted is None else np.array(fitted["thresholds"])

    def _said(self, outputs: Outputs) -> np.ndarray:
        """Return which labels are said of each image, bool (n, labels)."""
        return outputs["logits"] > self._thresholds

    def read_more(self, folder: Path, columns: Sequence[str]) -> Dataset:
        """Return images whose table has the network's labels; refuse any other."""
        settings = Labels(**self._predicted.settings)
        ours = settings.model_copy(update={"labels": list(self._labels)})
        return self.read(Source(folder), ours)

    def targets(self, data: Dataset) -> np.ndarray:
        """Return 1 for each label that an image has, 0 or nan (unknown), float32 (n, labels)."""
        return truths(data, self._labels)

    def check_weights(self, metadata: Mapping[str, Any]) -> InputSpec:
        """Return the spec with the weights' order of labels; refuse other labels."""
        spec = super().check_weights(metadata)
        theirs = (metadata.get("spec") or {}).get("predicted") or {"facts": {}}
        known = metadata.get("classes") or theirs["facts"].get("labels")
        facts = self._predicted.facts | {"labels": list(check_class_names(known, self._labels))}
        return spec.model_copy(
            update={"predicted": self._predicted.model_copy(update={"facts": facts})}
        )

    def same_outputs(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether weights name the same labels in the same order."""
        theirs = (metadata.get("spec") or {}).get("predicted") or {"facts": {}}
        known = metadata.get("classes") or theirs["facts"].get("labels")
        return known == list(self._labels)

    def judge(
        self, data: Dataset, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Judge:
        """Return each image's F1 over the labels that are known of it."""
        truth = self.targets(data)[indices]
        return lambda outputs: f1(self._said(outputs), truth).tolist()

    def score(
        self,
        ask: Ask,
        data: Dataset,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return the mean F1, and beside it the mean average precision, for which all count."""
        outputs, truth = ask(indices), self.targets(data)[indices]
        logits = outputs["logits"]
        found = super().score(lambda _: outputs, data, indices, tolerance, in_run)
        has = (truth == 1).any(0)
        missing = [name for name, some in zip(self._labels, has, strict=True) if not some]
        meaning = f"mean over {has.sum()} labels of the average precision"
        if missing:
            meaning += f"; without {_listed(missing)}, which no image that is judged has"
        if untaught := self._predicted.facts["not_in_training"]:
            meaning += f"; no training image has {_listed(untaught)}"
        metric = Metric(name=PRECISION, value=None, meaning=meaning)
        if has.any():
            drawn = interval(lambda x: mean_average_precision(logits, truth, x), len(truth))
            metric = Metric.share(PRECISION, drawn, meaning)
        return found.model_copy(update={"further": [metric]})

    def fit(self, ask: Ask, data: Dataset) -> Any:
        """Return each label's threshold, a logit: where its F1 on the training images is best.

        0, a probability of one half, where no training image has it, or all have.
        """
        training = data.indices("train")
        if not len(training):
            return {"thresholds": [0.0] * len(self._labels)}
        logits, truth = ask(training)["logits"], self.targets(data)[training]
        found = [best_threshold(x, has) for x, has in zip(logits.T, truth.T, strict=True)]
        return {"thresholds": [0.0 if x is None else x for x in found]}

    def guess(self, data: Dataset, tolerance: KeypointTolerance) -> tuple[str, float]:
        """Return what the labels reach that are best said of every image, whatever it shows."""
        truth = self.targets(data)
        training = truth[data.indices("train")]
        known = np.isfinite(training).sum(0)
        share = (training == 1).sum(0) / np.maximum(known, 1)
        sets = [share >= least for least in (*np.unique(share), np.inf)]
        best = max(sets, key=lambda said: f1(_of_all(said, training), training).mean())
        judged = truth[data.indices("validation")]
        return "the commonest labels", float(f1(_of_all(best, judged), judged).mean())

    def label_loss(self, smoothing: float) -> "Callable[[TensorOutputs, Tensor], Tensor]":
        """Return the binary cross entropy of known labels, or the asymmetric loss."""
        from compress.tasks.multilabel import losses

        settings = Labels(**self._predicted.settings).loss
        more = settings.model_dump(exclude={"name"})
        loss = getattr(losses, settings.name)
        return lambda outputs, targets: loss(outputs["logits"], targets, smoothing, **more)

    def teacher_loss(
        self, settings: Any
    ) -> "Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]":
        """Return how far each label's probability is from the teacher's."""
        from compress.tasks.multilabel.losses import binary_kd

        return lambda ours, teachers, _: binary_kd(
            ours["logits"], teachers["logits"], settings.temperature
        )

    def drawn_loss(self, outputs: TensorOutputs) -> "Tensor":
        """Return the cross entropy with labels drawn by their probabilities."""
        from compress.tasks.multilabel.losses import drawn

        return drawn(outputs["logits"])

    def answers(self, outputs: Outputs, images: Sequence[Path]) -> Iterator[Names]:
        """Yield the labels that are said, the most probable first."""
        probabilities = probabilities_of(outputs["logits"], "sigmoid")
        for p, said in zip(probabilities, self._said(outputs), strict=True):
            order = [i for i in np.argsort(-p, kind="stable").tolist() if said[i]]
            yield [(self._labels[i], float(p[i])) for i in order]

    def first(self, answer: Names, top: int | None) -> Names:
        """Return the most probable of the labels that are said; all where no number is asked."""
        return answer[:top]

    def rows(self, answer: Names) -> list[dict[str, Any]]:
        """Return a row for each label that is said."""
        return [
            {"rank": rank, "class": name, "probability": probability}
            for rank, (name, probability) in enumerate(answer, 1)
        ]

    def lines(self, answer: Names) -> list[str]:
        """Return a line for each label."""
        told = [f"{percent(probability):>7}  {name}" for name, probability in answer]
        return told or [f"none of its {len(self._labels)} labels"]

    def changed_answers(self, stored: Outputs, now: Outputs) -> int:
        """Return of how many images another set of labels is said."""
        return int((self._said(stored) != self._said(now)).any(1).sum())

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield the labels with their thresholds, and those that were never seen."""
        odds = probabilities_of(self._thresholds, "sigmoid")
        said = (f"{x} (from {percent(p)} %)" for x, p in zip(self._labels, odds, strict=True))
        yield "labels", ", ".join(said)
        if untaught := self._predicted.facts["not_in_training"]:
            yield "labels that no training image has", ", ".join(untaught)

    @property
    def always(self) -> str:
        """With some of its labels."""
        return f"with some of its {len(self._labels)} labels"


def _of_all(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the same labels, bool (labels,), said of every image, (n, labels)."""
    return np.broadcast_to(said, truth.shape)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
