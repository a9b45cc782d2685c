"""A space shared by images and identities or words: a unit vector, judged by what is near it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compress.data.dataset import Dataset
from compress.data.image_files import written
from compress.data.input_spec import Shape
from compress.data.layouts import read_folder
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.metrics.resampling import interval
from compress.results.schema import Metric
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Ask, Judge, Source, Task, TensorOutputs
from compress.tasks.embedding.labels import indices_of, labels_in, name_of, take_labels
from compress.tasks.embedding.neighbours import Record, among_each_other, mean_of, record
from compress.tasks.embedding.packed import pack, unit, unpack
from compress.tasks.embedding.settings import Cosine, Relational, Space
from compress.tasks.embedding.words import label_vectors
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

OUTPUT = "vector"
TOLD = 5  # nearest labels, and nearest images, that are told
SAME = 0.999  # as near are vectors of one image, in another runtime or half precision, too


class Near(NamedTuple):
    """A label or an image of the gallery, and the cosine of its vector and the image's."""

    cosine: float
    label: str
    image: str = ""


class Embedding(Task[list[Near]]):
    """Where an image lies in a space of identities, or of words."""

    name = "embedding"
    word = "recall@1"
    settings = Space
    losses = (Cosine, Relational)
    trains_with = ("mirror: same",)
    # 2: images with several labels are drawn into a split, too; 3: it is kept what is nearest
    version = 3

    @classmethod
    def read(cls, source: Source, settings: Space) -> Dataset:
        """Return images with their labels: class folders, or a table."""
        data = read_folder(source.path, source.image_column, source.label_column)
        if len(data.classes) < 2:
            what = f"only the label {data.classes[0]!r}" if data.classes else "no labelled images"
            raise UserError(f"{data.root} holds {what}: a space needs two things that differ.")
        return take_labels(data, settings)

    @classmethod
    def depends_on(cls, settings: Space) -> Sequence[str]:
        """Return the file that the words' vectors come from."""
        return [] if settings.words is None else [settings.words.source]

    @classmethod
    def likely_outputs(cls, settings: Space) -> int:
        """Return the numbers of a vector."""
        return settings.dimension

    @classmethod
    def outputs(cls, data: Dataset) -> dict[str, Shape]:
        """Return the vector."""
        return {OUTPUT: (Space(**data.task_settings).dimension,)}

    @classmethod
    def facts(cls, data: Dataset) -> dict[str, Any]:
        """Return the labels trained on, those never trained on, and the vectors of their words."""
        settings = Space.model_validate(data.task_settings)
        labels = labels_in(data, settings.more_labels)
        found: dict[str, Any] = {"labels": list(labels.trained), "new": list(labels.new)}
        if settings.words is not None:
            vectors = label_vectors([*labels.trained, *labels.new], settings, data.root)
            found["vectors"] = pack(vectors)
        return found

    @property
    def _settings(self) -> Space:
        return Space.model_validate(self._predicted.settings)

    @property
    def _labels(self) -> list[str]:
        """Those trained on, and then those never trained on."""
        return [*self._predicted.facts["labels"], *self._predicted.facts["new"]]

    @property
    def _words(self) -> np.ndarray | None:
        """The labels' vectors (labels, dimension); None in a space of identities."""
        packed = self._predicted.facts.get("vectors")
        return None if packed is None else unpack(packed)

    @property
    def _gallery(self) -> "Gallery | None":
        return None if self._predicted.fitted is None else Gallery.of(self._predicted.fitted)

    @property
    def _aims(self) -> np.ndarray | None:
        """What may be nearest: the labels' words, or a gallery's images; None: nothing is known."""
        if self._words is not None:
            return self._words
        return None if self._gallery is None else self._gallery.vectors

    def read_more(self, folder: Path, columns: Sequence[str]) -> Dataset:
        """Return images whose labels the network knows the words of; any, if they are identities.

        Raises:
            UserError: labels without a word in the network's space.
        """
        identities = Space(separator=None, dimension=self._settings.dimension)
        data = read_folder(folder)
        if self._words is None:
            return take_labels(data, identities)
        apart = identities.model_copy(update={"separator": self._settings.separator})
        data = take_labels(data, apart)
        known = set(self._labels)
        unknown = sorted({x for image in data.images for x in image.truth or ()} - known)
        if unknown:
            raise UserError(
                f"{folder} has {len(unknown)} labels that the model has no words for "
                f"({', '.join(unknown[:3])}): name them under more_labels, and make it anew."
            )
        return data

    def targets(self, data: Dataset) -> np.ndarray:
        """Return the positions of an image's labels among those trained on, int64 (n, most)."""
        return indices_of(data, self._predicted.facts["labels"])

    def judge(
        self, data: Dataset, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Judge:
        """Return how many labels, or images of the gallery, are nearer than a right one.

        In a space of identities, the gallery of the file is asked; the first of the judged images
        of a label that it lacks joins it, as a new whale does, and is not asked itself. Before
        there is one, while networks are trained, images are each other's gallery.
        """
        judged = [data.images[i] for i in indices]
        words, gallery = self._words, self._gallery
        if words is not None:
            right = _has(indices_of(data, self._labels)[indices], len(words))
            known = np.arange(len(words)) < len(self._predicted.facts["labels"])

            def of_words(outputs: Outputs) -> list[Record]:
                near = unit(outputs[OUTPUT]) @ words.T
                return [
                    record(x, own, known, None if own[known].any() else name_of(image))
                    for x, own, image in zip(near, right, judged, strict=True)
                ]

            return of_words
        names = np.array([name_of(image) for image in judged], object)
        if gallery is None:
            return lambda outputs: among_each_other(unit(outputs[OUTPUT]), names)
        paths = np.array([written(image.path) for image in judged], object)
        trained = set(self._predicted.facts["labels"])
        return lambda outputs: gallery.records(unit(outputs[OUTPUT]), names, paths, trained)

    def comparable(self, outputs: Outputs) -> list[int]:
        """Return which label, or image of the gallery, is nearest to each image."""
        aims = self._aims
        return [] if aims is None else (unit(outputs[OUTPUT]) @ aims.T).argmax(1).tolist()

    @classmethod
    def statistic(cls, records: Sequence[Record], weights: np.ndarray) -> np.ndarray:
        """Return the share of images, of those asked, with a right one nearest."""
        return mean_of(records, weights, lambda x: float(x[0] < 1))

    @classmethod
    def further(cls, records: Sequence[Record]) -> list[Metric]:
        """Return recall@5, mean average precision, and how those never trained on are found.

        Images of one new label are alike: its interval draws whole labels.
        """
        asked = sum(bool(x) for x in records)
        if not asked:
            return []
        found = [
            _metric(
                "recall@5 %", f"a right one is among the 5 nearest; {asked} images", _at5, records
            ),
            _metric("mAP %", "mean average precision over all", lambda x: x[1], records),
        ]
        if new := [x for x in records if x and x[3] is not None]:
            labels = len({x[3] for x in new})
            trained = f"of {asked - len(new)} images whose labels were trained on"
            those = f"of {len(new)} images of {labels} labels that were never trained on"
            if len(new) < asked:
                said = f"the nearest is right, {trained}"
                found.append(_metric("of known labels %", said, _of_known, records))
            found += [
                _metric("zero-shot %", f"the nearest is right, {those}", _of_new(0), records),
                _metric("zero-shot among new %", f"{those}, among such", _of_new(2), records),
            ]
        return found

    def fit(self, ask: Ask, data: Dataset) -> Any:
        """Return the gallery of the training images; None in a space of words."""
        training = data.indices("train")
        if self._words is not None or not len(training):
            return None
        return self.gallery(ask, data, training)

    def gallery(self, ask: Ask, data: Dataset, indices: np.ndarray) -> Any:
        """Return images with their vectors and labels, as JSON.

        Raises:
            UserError: there are none.
        """
        if not len(indices):
            raise UserError(f"{data.root} has no images, and an empty gallery finds nothing.")
        images = [data.images[i] for i in indices]
        return {
            "labels": [name_of(image) for image in images],
            "images": [written(image.path) for image in images],
            "vectors": pack(unit(ask(indices)[OUTPUT])),
        }

    def label_loss(self, smoothing: float) -> "Callable[[TensorOutputs, Tensor], Tensor]":
        """Return the loss that the recipe names."""
        import torch

        from compress.tasks.embedding import losses

        trained, settings = len(self._predicted.facts["labels"]), self._settings
        chosen, words = settings.learned_by, self._words
        if words is None:
            return losses.Identities(chosen, trained, settings.dimension)
        known = torch.from_numpy(words[:trained])
        loss = getattr(losses, chosen.name)
        more = chosen.model_dump(exclude={"name"})
        return lambda given, targets: loss(given[OUTPUT], targets, known.to(targets.device), **more)

    def teacher_loss(
        self, settings: Any
    ) -> "Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]":
        """Return how far vectors are from the teacher's, or distances from its distances.

        Raises:
            UserError: relational, where the space's directions are the words'.
        """
        from compress.tasks.embedding import losses

        if settings.name == "cosine":
            return lambda ours, theirs, _: losses.same_direction(ours[OUTPUT], theirs[OUTPUT])
        if self._words is not None:
            raise UserError(
                "loss relational keeps distances and turns the space, in which words lie where "
                "they lie: choose cosine."
            )
        more = settings.model_dump(exclude={"name"})
        return lambda ours, theirs, _: losses.relational(ours[OUTPUT], theirs[OUTPUT], **more)

    def answers(self, outputs: Outputs, images: Sequence[Path]) -> Iterator[list[Near]]:
        """Yield the labels, where they have words, then a gallery's images; the nearest first."""
        words, gallery = self._words, self._gallery
        for vector in unit(outputs[OUTPUT]):
            found: list[Near] = []
            if words is not None:
                near = words @ vector
                found += [Near(float(near[i]), self._labels[i]) for i in _nearest(near)]
            if gallery is not None:
                near = gallery.vectors @ vector
                found += [
                    Near(float(near[i]), gallery.labels[i], gallery.images[i])
                    for i in _nearest(near)
                ]
            yield found

    def first(self, answer: list[Near], top: int | None) -> list[Near]:
        """Return the nearest labels and the nearest images, so many of each."""
        labels, images = ([x for x in answer if bool(x.image) == of] for of in (False, True))
        return labels[: top or TOLD] + images[: top or TOLD]

    def rows(self, answer: list[Near]) -> list[dict[str, Any]]:
        """Return a row for each; `nearest` is an image of the gallery, empty with a label."""
        labels = sum(not near.image for near in answer)
        return [
            {
                "rank": rank + 1 - (labels if near.image else 0),
                "class": near.label,
                "cosine": near.cosine,
                "nearest": near.image,
            }
            for rank, near in enumerate(answer)
        ]

    def lines(self, answer: list[Near]) -> list[str]:
        """Return a line for each."""
        told = [f"{near.cosine:7.3f}  {near.label}  {near.image}".rstrip() for near in answer]
        return told or ["no gallery: give one with --gallery"]

    def changed_answers(self, stored: Outputs, now: Outputs) -> int:
        """Return how many images have another nearest one; by value, where two were as near."""
        aims = self._aims
        if aims is None:
            return 0
        before = unit(stored[OUTPUT]) @ aims.T
        best = (unit(now[OUTPUT]) @ aims.T).argmax(1)
        return int((before[np.arange(len(before)), best] < before.max(1)).sum())

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield what the vectors are near to, and what was never trained on."""
        facts, gallery = self._predicted.facts, self._gallery
        where = "words" if self._words is not None else "identities"
        yield "output", f"a unit vector of {self._settings.dimension} numbers, near {where}"
        yield "labels", f"{len(self._labels)}, of which {len(facts['new'])} were never trained on"
        if gallery is not None:
            yield "gallery", f"{len(gallery.labels)} images"

    @property
    def always(self) -> str:
        """With what is nearest."""
        return "with what is nearest"


class Gallery(NamedTuple):
    """Images by what lies near them."""

    labels: list[str]
    images: list[str]
    vectors: np.ndarray  # float32 (n, dimension), of length 1

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Gallery":
        """Return the gallery that `Embedding.gallery` made JSON of."""
        return cls(stored["labels"], stored["images"], unpack(stored["vectors"]))

    def records(
        self, vectors: np.ndarray, names: np.ndarray, paths: np.ndarray, trained: Collection[str]
    ) -> list[Record]:
        """Return what is kept of images' answers.

        Args:
            vectors: of the images, with their labels and paths as they are kept: an image is not
                its own neighbour. One of the same path in another folder is, told by its vector.
            trained: labels that the network was trained on.
        """
        here = set(self.labels)
        firsts = {name: i for i, name in reversed([*enumerate(names)]) if name not in here}
        joined = sorted(firsts.values())
        labels = np.array([*self.labels, *names[joined]], object)
        known = np.array([label in trained for label in labels])
        near = vectors @ np.concatenate([self.vectors, vectors[joined]]).T
        own = np.array([*self.images, *paths[joined]], object)
        alike = near > SAME
        alike[:, len(self.images) :] = True  # those that joined are of the same folder
        found = []
        for row, same, name, path in zip(near, alike, names, paths, strict=True):
            there = np.where(same & (own == path) & (labels == name), -np.inf, row)
            found.append(record(there, labels == name, known, None if name in trained else name))
        return found


def _nearest(cosines: np.ndarray) -> list[int]:
    """Return the positions, the nearest first."""
    return np.argsort(-cosines, kind="stable").tolist()


def _has(indices: np.ndarray, labels: int) -> np.ndarray:
    """Return which labels images have, bool (n, labels), of positions filled with -1."""
    has = np.zeros((len(indices), labels + 1), bool)
    np.put_along_axis(has, np.where(indices >= 0, indices, labels), True, 1)
    return has[:, :labels]


def _at5(asked: Record) -> float:
    return float(asked[0] < 5)


def _of_known(asked: Record) -> float | None:
    return float(asked[0] < 1) if asked[3] is None else None


def _of_new(place: int) -> Callable[[Record], float | None]:
    """Return what says whether the nearest is right, of images whose label is new alone."""
    return lambda x: None if x[3] is None else float(x[place] < 1)


def _metric(
    name: str, meaning: str, score: Callable[[Record], float | None], records: Sequence[Record]
) -> Metric:
    """Return a mean with its interval, for which labels that are new are drawn whole."""
    asked = [x for x in records if x and score(x) is not None]
    drawn = [("image", i) if x[3] is None else ("label", x[3]) for i, x in enumerate(asked)]
    places = {unit: place for place, unit in enumerate(dict.fromkeys(drawn))}
    own = [places[unit] for unit in drawn]
    found = interval(lambda weights: mean_of(asked, weights[:, own], score), len(places))
    return Metric.share(name, found, meaning)
