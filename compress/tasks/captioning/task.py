"""Captions: a sentence of an image, word by word, and where the network looked for each."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec, Shape
from compress.data.layouts import read_rows
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.metrics.resampling import interval
from compress.results.schema import Accuracy, Metric
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Ask, Judge, Source, Task, TensorOutputs
from compress.tasks.captioning.attention import cells_in_boxes, draw_maps, on_box
from compress.tasks.captioning.captions import (
    check,
    in_training,
    numbers,
    take_captions,
    vocabulary,
)
from compress.tasks.captioning.facts import Reader
from compress.tasks.captioning.scores import bleu_and_cider, word_accuracy
from compress.tasks.captioning.settings import Captions, WordKD
from compress.tasks.captioning.words import sentence_of, unknown_in, words_of
from compress.utils.errors import UserError
from compress.utils.units import percent

if TYPE_CHECKING:
    from torch import Tensor

TOKENS, ATTENTION = "tokens", "attention"
WORDS = "word accuracy"  # what a network is judged by where no facts are named
LIKELY = 64  # words of a vocabulary that is not known yet


class Sentence(NamedTuple):
    """What is said of an image, and where the network looked for each word."""

    words: list[str]
    maps: np.ndarray  # (words, height, width), of sum 1 each

    @property
    def text(self) -> str:
        """The words as one text."""
        return " ".join(self.words)


class Captioning(Task[Sentence]):
    """What people would say of an image."""

    name = "captioning"
    word = "facts right"
    settings = Captions
    losses = (WordKD,)
    trains_with = ("label_smoothing",)
    averaged = False  # the words at a step follow other words in another network's sentence

    @classmethod
    def read(cls, source: Source, settings: Captions) -> Dataset:
        """Return images with their captions, from a table with one or several rows of an image."""
        if source.label_column is not None:
            raise UserError(
                "data.label_column is for one class an image: give data.task.captioning.columns."
            )
        return take_captions(read_rows(source.path, source.image_column, several=True), settings)

    @classmethod
    def checked(cls, data: Dataset, note: Callable[[str], None]) -> Dataset:
        """Say how many captions are too long, and how many of their words are unknown."""
        check(data, Captions.model_validate(data.task_settings), note)
        return data

    @classmethod
    def likely_outputs(cls, settings: Captions) -> int:
        """Return the logits of a small vocabulary."""
        return settings.steps * LIKELY

    @classmethod
    def outputs(cls, data: Dataset) -> dict[str, Shape]:
        """Return the words' logits at each step, and the attention of each."""
        settings = Captions.model_validate(data.task_settings)
        height, width = settings.cells
        words = len(vocabulary(data, settings))
        return {TOKENS: (settings.steps, words), ATTENTION: (settings.steps, height * width)}

    @classmethod
    def facts(cls, data: Dataset) -> dict[str, Any]:
        """Return the vocabulary, and which facts come together in training captions."""
        settings = Captions.model_validate(data.task_settings)
        found: dict[str, Any] = {"vocabulary": vocabulary(data, settings)}
        if settings.facts:
            reader, training = Reader(settings.facts), data.indices("train", "tune")
            together = {reader.combination(_told(reader, data.images[i].truth)) for i in training}
            found["combinations"] = [[list(x) for x in each] for each in sorted(together)]
        return found

    @property
    def _settings(self) -> Captions:
        return Captions.model_validate(self._predicted.settings)

    @property
    def _vocabulary(self) -> list[str]:
        return self._predicted.facts["vocabulary"]

    def _said(self, outputs: Outputs) -> list[list[str]]:
        """Return the words that are said of each image."""
        return [sentence_of(x, self._vocabulary) for x in outputs[TOKENS].argmax(2).tolist()]

    def targets(self, data: Dataset) -> np.ndarray:
        """Return the captions' words, int64 (n, most captions of an image, steps)."""
        return numbers(data, self._vocabulary, self._settings.steps)

    def check_weights(self, metadata: Mapping[str, Any]) -> InputSpec:
        """Return the spec with the weights' order of words; refuse other words."""
        spec = super().check_weights(metadata)
        theirs = (metadata.get("spec") or {}).get("predicted")
        if theirs is None:
            return spec
        known = theirs["facts"]["vocabulary"]
        if sorted(known) != sorted(self._vocabulary):
            others = len({*known} ^ {*self._vocabulary})
            raise UserError(
                f"The teacher's weights were trained for another vocabulary ({others} words stand "
                "in one of the two alone): train it on these captions."
            )
        facts = self._predicted.facts | {"vocabulary": known}
        predicted = self._predicted.model_copy(update={"facts": facts})
        return spec.model_copy(update={"predicted": predicted})

    def judge(
        self, data: Dataset, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Judge:
        """Return the share of facts right, None where its captions tell none of them; without
        facts, the word accuracy."""
        captions = [[words_of(x) for x in data.images[i].truth] for i in indices]
        if not self._settings.facts:
            return lambda outputs: [
                word_accuracy(*pair) for pair in zip(self._said(outputs), captions, strict=True)
            ]
        reader = Reader(self._settings.facts)
        told = [[reader.read(x) for x in each] for each in captions]
        return lambda outputs: [
            reader.score(reader.read(said), each)
            for said, each in zip(self._said(outputs), told, strict=True)
        ]

    @classmethod
    def statistic(cls, records: Sequence[float | None], weights: np.ndarray) -> np.ndarray:
        """Return the mean over images whose captions tell facts; 0 where none does."""
        there = np.array([x is not None for x in records], float)
        values = np.array([x or 0.0 for x in records])
        whole = weights @ there
        return np.divide(weights @ values, whole, out=np.zeros(len(weights)), where=whole > 0)

    def score(
        self,
        ask: Ask,
        data: Dataset,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return the facts right, and beside it how near the sentences are to the captions."""
        outputs = ask(indices)
        found = super().score(lambda _: outputs, data, indices, tolerance, in_run)
        said = self._said(outputs)
        further = [
            *self._of_words(said, [data.images[i].truth for i in indices]),
            *self._of_new_combinations(found.records, data, indices),
            *self._of_looks(outputs, said, data, indices),
        ]
        if self._settings.facts:
            return found.model_copy(update={"further": further})
        return found.model_copy(update={"metric": WORDS, "further": further[1:]})

    def _of_words(self, said: list[list[str]], captions: Sequence[Sequence[str]]) -> list[Metric]:
        """Return word accuracy, BLEU-4 and CIDEr."""
        references = [[words_of(x) for x in each] for each in captions]
        near = float(np.mean([word_accuracy(*x) for x in zip(said, references, strict=True)]))
        unknown, words = unknown_in((x for each in captions for x in each), self._vocabulary)
        meaning = "1 - words to exchange / words, against the nearest caption"
        if unknown:
            meaning += f"; {unknown} of the captions' {words} words are not in the vocabulary"
        bleu = cider = None
        by = f"of {len(said)} images, by pycocoevalcap"
        try:
            bleu, cider = bleu_and_cider(said, references)
        except ImportError:
            by = "not computed: pip install 'compress[captioning]'"
        return [
            Metric(name=f"{WORDS} %", value=100 * near, meaning=meaning),
            Metric(name="BLEU-4 %", value=None if bleu is None else 100 * bleu, meaning=by),
            Metric(name="CIDEr", value=cider, meaning=f"CIDEr-D, 0 to 10, {by}"),
        ]

    def _of_new_combinations(
        self, records: Sequence[float | None], data: Dataset, indices: np.ndarray
    ) -> list[Metric]:
        """Return the facts right of images whose facts come together in no training caption."""
        if not self._settings.facts:
            return []
        reader = Reader(self._settings.facts)
        known = {tuple(map(tuple, each)) for each in self._predicted.facts["combinations"]}
        new = [
            record
            for record, i in zip(records, indices, strict=True)
            if record is not None
            and reader.combination(_told(reader, data.images[i].truth)) not in known
        ]
        if not new:
            return []
        shown = interval(lambda weights: self.statistic(new, weights), len(new))
        meaning = (
            f"facts right of {len(new)} images whose facts come together in no training caption"
        )
        return [Metric.share("new combinations %", shown, meaning)]

    def _of_looks(
        self, outputs: Outputs, said: list[list[str]], data: Dataset, indices: np.ndarray
    ) -> list[Metric]:
        """Return how much of the attention lies in the box when its word is said."""
        looks = self._settings.looks
        if looks is None:
            return []
        grid = self._settings.cells
        inside = cells_in_boxes(data, indices, looks.box, self.spec, grid)
        words = [word for x in looks.words for word in words_of(x)]
        shares = on_box(outputs[ATTENTION], said, words, inside)
        shares = shares[np.isfinite(shares).all(1)]
        named = f"{'/'.join(looks.words)} is said"
        if not len(shares):
            meaning = f"when {named}: in no image that has a box"
            return [Metric(name="attention in box %", value=None, meaning=meaning)]
        even = shares[:, 1].mean()
        shown = interval(lambda w: w @ shares[:, 0] / w.sum(1), len(shares))
        ends = {"value": shown.value, "low": shown.low, "high": shown.high}
        times = shown.model_copy(update={key: float(x / even) for key, x in ends.items()})
        meaning = f"when {named}, {len(shares)} images; an even map has {percent(even)}"
        return [
            Metric.share("attention in box %", shown, meaning),
            Metric(
                name="times an even map",
                value=times.value,
                meaning=f"attention in the box when {named}",
                interval=times,
            ),
        ]

    def guess(self, data: Dataset, tolerance: KeypointTolerance) -> tuple[str, float]:
        """Return what the commonest training caption reaches."""
        settings, known = self._settings, {x: i for i, x in enumerate(self._vocabulary)}
        ((commonest, _),) = Counter(in_training(data)).most_common(1)
        words = [known.get(x, 1) for x in words_of(commonest)][: settings.steps]
        validation = data.indices("validation")
        tokens = np.zeros((len(validation), settings.steps, len(known)))
        tokens[:, np.arange(len(words)), words] = 1
        records = self.judge(data, validation, tolerance)({TOKENS: tokens})
        return "the commonest caption", float(
            self.statistic(records, np.ones((1, len(records))))[0]
        )

    def label_loss(self, smoothing: float) -> "Callable[[TensorOutputs, Tensor], Tensor]":
        """Return the cross entropy of the words, and what keeps the attention from one place."""
        from compress.tasks.captioning.losses import labels

        weight = self._settings.doubly_stochastic
        return lambda outputs, targets: labels(
            outputs[TOKENS], outputs[ATTENTION], targets, smoothing, weight
        )

    def teacher_loss(
        self, settings: Any
    ) -> "Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]":
        """Return how far the words' probabilities are from the teacher's, of its own sentence."""
        from compress.tasks.captioning.losses import word_kd

        return lambda ours, teachers, _: word_kd(
            ours[TOKENS], teachers[TOKENS], settings.temperature
        )

    def told(self, targets: "Tensor", teachers: TensorOutputs | None) -> "Tensor":
        """Return the captions, and behind them the teacher's own sentence."""
        import torch

        from compress.tasks.captioning.losses import spoken

        if teachers is None:
            return targets
        return torch.cat([targets, spoken(teachers[TOKENS]).unsqueeze(1)], 1)

    def kept(self, top_k: int) -> Mapping[str, int]:
        """Return the largest logits of each word, of a vocabulary that has more."""
        return {TOKENS: top_k} if len(self._vocabulary) > top_k else {}

    def drawn_loss(self, outputs: TensorOutputs) -> "Tensor":
        """Return the cross entropy with words drawn by their probabilities."""
        from compress.tasks.captioning.losses import drawn

        return drawn(outputs[TOKENS])

    def answers(self, outputs: Outputs, images: Sequence[Path]) -> Iterator[Sentence]:
        """Yield the sentence of each image, with the words' maps."""
        for words, maps in zip(self._said(outputs), outputs[ATTENTION], strict=True):
            yield Sentence(words, maps[: len(words)].reshape(-1, *self._settings.cells))

    def lines(self, answer: Sentence) -> list[str]:
        """Return the sentence."""
        return [answer.text]

    def rows(self, answer: Sentence) -> list[dict[str, Any]]:
        """Return one row with the sentence."""
        return [{"caption": answer.text}]

    def draw(self, file: Path, answer: Sentence, out: Path) -> None:
        """Draw one map a word."""
        draw_maps(file, answer.words, answer.maps, self.spec, out)

    def changed_answers(self, stored: Outputs, now: Outputs) -> int:
        """Return of how many images another sentence is said."""
        return sum(a != b for a, b in zip(self._said(stored), self._said(now), strict=True))

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield the vocabulary, and the facts that sentences tell."""
        settings = self._settings
        yield "output", f"a sentence of up to {settings.steps} words, of {len(self._vocabulary)}"
        if settings.facts:
            yield "facts", ", ".join(settings.facts)

    @property
    def always(self) -> str:
        """With a sentence."""
        return "with a sentence"


def _told(reader: Reader, captions: Sequence[str]) -> list[Any]:
    """Return what each of an image's captions tells."""
    return [reader.read(words_of(x)) for x in captions]
