"""What a task is: all that depends on what is predicted of an image, and when it is right."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from compress.data.dataset import Dataset
from compress.data.input_spec import Fit, InputSpec, Predicted, Shape
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.metrics.probabilities import Scale
from compress.metrics.resampling import interval
from compress.results.schema import Accuracy, Metric
from compress.runtimes.outputs import Outputs
from compress.tasks.settings import LossSettings, Match, TaskSettings
from compress.utils.errors import UserError
from compress.utils.hooks import refuse_unknown

if TYPE_CHECKING:
    from torch import Tensor

Answer = TypeVar("Answer")
Judge = Callable[[Outputs], list[Any]]  # outputs of n images -> a record for each
Ask = Callable[[np.ndarray], Outputs]  # positions in a dataset (n,) -> outputs of these images
TensorOutputs = Mapping[str, "Tensor"]  # by name, (n, …) each


class Source(NamedTuple):
    """Where a run's images lie; columns where a table calls them otherwise than usual."""

    path: Path
    image_column: str | None = None
    label_column: str | None = None


class Task(ABC, Generic[Answer]):
    """One task with one network's input spec; importing it imports no torch.

    A task lives in a folder of `compress/tasks`, or is named by an entry point of the group
    `compress.tasks`. What is no hook and has no leading underscore is a mistake. `Answer` is what
    people are told of one image.

    Attributes:
        name: in recipes and input specs.
        word: what the number between 0 and 1 is called that a network is judged by.
        version: raised when the task reads or judges the same data otherwise.
        settings: what a recipe may say of it, under `data.task`.
        losses: ways to learn from the teacher, the usual one first.
        trains_with: of `mixup`, `cutmix`, `label_smoothing`, `mirror` and `margin` those that make
            sense; `mirror: same` where there are no classes to double.
        right_or_wrong: whether that number is a share of right answers, so that `score` tells of
            each image whether its answer is right.
        has_places: whether its targets are places in the image, which move with a view of it.
        image_fit: how other aspect ratios are brought to the input, unless a recipe says.
        order_of: what may stand in another order than the network's: "classes".
        explained: the output with a score for each of several classes (n, classes), whose largest
            is explained by heat maps; None: nothing is to be explained.
        logits: the output (n, classes) that is logits; a file that gives probabilities in its
            place is understood. None: no output is.
        probabilities: what makes probabilities of these logits.
        averaged: whether the mean of what several networks answer is an answer, too.
        unused_in_script: fields of the spec that an exported script does not need.
    """

    name: ClassVar[str]
    word: ClassVar[str]
    version: ClassVar[int] = 1
    settings: ClassVar[type[TaskSettings]] = TaskSettings
    losses: ClassVar[tuple[type[LossSettings], ...]] = (Match,)
    trains_with: ClassVar[Collection[str]] = ()
    right_or_wrong: ClassVar[bool] = False
    has_places: ClassVar[bool] = False
    image_fit: ClassVar[Fit] = "crop"
    order_of: ClassVar[str] = "outputs"
    explained: ClassVar[str | None] = None
    logits: ClassVar[str | None] = None
    probabilities: ClassVar[Scale] = "softmax"
    averaged: ClassVar[bool] = True
    unused_in_script: ClassVar[Collection[str]] = ("classes", "points")

    spec: InputSpec

    def __init_subclass__(cls) -> None:
        """Refuse what is no hook: a misspelt one would never be asked."""
        refuse_unknown(cls, Task, "task", ("name", "word"))

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    # The data, before there is a network

    @classmethod
    @abstractmethod
    def read(cls, source: Source, settings: Any) -> Dataset:
        """Return a run's images and what is true of them; none of them is decoded yet.

        What a task wants to know of an image that is neither a label nor points belongs into
        `Sample.truth`.

        Args:
            settings: as a recipe gives them under `data.task`.

        Raises:
            UserError: all that is wrong with the folder, in one message.
        """

    @classmethod
    def depends_on(cls, settings: Any) -> Sequence[str]:
        """Return further files that `read` reads: paths below the images' folder, or absolute."""
        return ()

    @classmethod
    def checked(cls, data: Dataset, note: Callable[[str], None]) -> Dataset:
        """Return the images that are left when each of them can be read.

        Args:
            note: is told what was left out.
        """
        return data

    @classmethod
    def usual_loss(cls) -> LossSettings:
        """Return the loss against the teacher where a recipe names none."""
        return cls.losses[0].model_validate({})

    @classmethod
    def tolerances(cls, settings: Any) -> Collection[str]:
        """Return which of the settings `tolerance` and `iou` say when an answer is right."""
        return ()

    @classmethod
    def likely_outputs(cls, settings: Any) -> int:
        """Return how many outputs a builder is told before the data is known."""
        return 2

    @classmethod
    def outputs(cls, data: Dataset) -> dict[str, Shape]:
        """Return the outputs that a network of this task has, each with its shape for one image."""
        raise NotImplementedError(f"{cls.__name__} says neither outputs nor predicts")

    @classmethod
    def facts(cls, data: Dataset) -> dict[str, Any]:
        """Return what must be known of a network's answers when the data is not there, as JSON."""
        return {}

    @classmethod
    def predicts(cls, data: Dataset) -> dict[str, Any]:
        """Return the fields of an input spec that say what the network predicts."""
        told = Predicted(
            task=cls.name,
            settings=data.task_settings,
            outputs=cls.outputs(data),
            facts=cls.facts(data),
        )
        return {"predicted": told}

    # The data, for a network

    @property
    def _predicted(self) -> Predicted:
        """What the spec says of the outputs, of a task that says `outputs`."""
        assert self.spec.predicted is not None
        return self.spec.predicted

    def read_more(self, folder: Path, columns: Sequence[str]) -> Dataset:
        """Return images to judge the network on.

        Args:
            columns: of the annotations, where they are called otherwise than usual.

        Raises:
            UserError: annotations of other things than the network predicts.
        """
        return self.read(Source(folder), self.settings(**self._predicted.settings))

    @abstractmethod
    def targets(self, data: Dataset) -> np.ndarray:
        """Return what the network is to answer for every image, (n, …); unlabelled ones too."""

    def targets_in_views(self, targets: np.ndarray, views: np.ndarray) -> "Tensor":
        """Return the targets of images (n, …) in views of them, float32 (n, fields)."""
        import torch

        return torch.from_numpy(targets)

    def check_weights(self, metadata: Mapping[str, Any]) -> InputSpec:
        """Return the spec in the order of outputs that weights say; refuse those of another task.

        Raises:
            UserError: what they predict instead.
        """
        spec = metadata.get("spec") or {}
        ours, theirs = self.spec.predicted, spec.get("predicted")
        if spec and (theirs is None or ours is None or theirs["task"] != ours.task):
            raise UserError(f"The teacher's weights were not trained for {self.name}.")
        return self.spec

    def same_outputs(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether weights say that they answer just what this network is to, in its order.

        Args:
            metadata: of the weights' file.
        """
        said = metadata.get("spec")
        own = json.loads(self.spec.model_dump_json())
        return isinstance(said, Mapping) and all(
            said.get(field) == own.get(field) for field in ("classes", "points", "predicted")
        )

    # When an answer is right

    @abstractmethod
    def judge(
        self, data: Dataset, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Judge:
        """Return what makes a record of each image's outputs, in the order of `indices`.

        A record is all that the statistic must know of an image, as JSON: by default a score in
        [0, 1], or whether the answer is right.
        """

    @classmethod
    def statistic(cls, records: Sequence[Any], weights: np.ndarray) -> np.ndarray:
        """Return the number in [0, 1] that a network is judged by; by default the mean score.

        It need not be a mean over images. Everything follows from it: intervals, differences
        between networks, the front and the choice come from drawing weights.

        Args:
            weights: float64 (draws, n), of the images; in each draw at least one is above 0.

        Returns:
            float64 (draws,).
        """
        return weights @ np.asarray(records, dtype=float) / weights.sum(1)

    @classmethod
    def further(cls, records: Sequence[Any]) -> list[Metric]:
        """Return what else reports are to show."""
        return []

    def comparable(self, outputs: Outputs) -> list[int]:
        """Return a number for what is answered to each image, the same for the same answer.

        How often two networks agree is counted by it; none where answers are hardly ever the same.
        """
        return []

    def score(
        self,
        ask: Ask,
        data: Dataset,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return all that is measured of the answers.

        Args:
            ask: gives the outputs for positions in the dataset.
            indices: of the images that are judged.
            in_run: whether `data` has a training split that this network was trained on.
        """
        outputs = ask(indices)
        records = self.judge(data, indices, tolerance)(outputs)
        return Accuracy(
            images=len(records),
            top1=interval(lambda weights: self.statistic(records, weights), len(records)),
            correct="",
            answers=self.comparable(outputs),
            task=self.name,
            metric=self.word,
            records=records,
            further=self.further(records),
        )

    def fit(self, ask: Ask, data: Dataset) -> Any:
        """Return what is fitted to a deployed file on training images, as JSON: thresholds, say.

        It becomes part of the file's input spec (`spec.predicted.fitted`).
        """
        return None

    @property
    def fits(self) -> bool:
        """Whether there is something to fit."""
        return type(self).fit is not Task.fit

    def gallery(self, ask: Ask, data: Dataset, indices: np.ndarray) -> Any:
        """Return what finds these images again, as JSON: it takes the place of what was fitted.

        Raises:
            UserError: no images; or the task knows no galleries.
        """
        raise UserError(
            f"A gallery is for models of vectors, and this one predicts {self.spec.named}."
        )

    def guess(self, data: Dataset, tolerance: KeypointTolerance) -> tuple[str, float] | None:
        """Return what to answer without a look at the image, and how it would be judged."""
        return None

    # Training

    @abstractmethod
    def label_loss(self, smoothing: float) -> "Callable[[TensorOutputs, Tensor], Tensor]":
        """Return the loss of outputs against targets; unlabelled images do not count."""

    def teacher_loss(
        self, settings: Any
    ) -> "Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]":
        """Return the loss of outputs against the teacher's and the targets.

        Args:
            settings: one of `losses`.
        """
        from compress.tasks.losses import match

        return lambda ours, teachers, _: match(ours, teachers)

    def told(self, targets: "Tensor", teachers: "TensorOutputs | None") -> "Tensor":
        """Return what a network is told in training that sees what it is to answer (teacher
        forcing), (n, …); others are told nothing.

        Args:
            teachers: the outputs of the teacher that it learns from; None: it learns from labels.
        """
        return targets

    def kept(self, top_k: int) -> Mapping[str, int]:
        """Return of which of the teacher's outputs only the largest numbers are cached.

        Largest along the last axis.

        Args:
            top_k: how many at most.
        """
        return {}

    def drawn_loss(self, outputs: "TensorOutputs") -> "Tensor":
        """Return the loss against targets drawn from what the outputs say, summed over images.

        Its squared gradient is the Fisher information. Here: half the squared distance from
        numbers drawn around the outputs, the negative log-likelihood of a Gaussian of deviation 1
        (another deviation would be one factor on the importance of all channels).
        """
        from compress.tasks.losses import gaussian

        return gaussian(outputs)

    # Deployed

    @abstractmethod
    def answers(self, outputs: Outputs, images: Sequence[Path]) -> Iterator[Answer]:
        """Yield what people are told of each image."""

    def first(self, answer: Answer, top: int | None) -> Answer:
        """Return what is told of an answer: of one that is a ranking, its first.

        Args:
            top: how many, at least 1; None: as many as is usual.
        """
        return answer

    @abstractmethod
    def lines(self, answer: Answer) -> list[str]:
        """Return an answer as it is printed."""

    def rows(self, answer: Answer) -> list[dict[str, Any]]:
        """Return an answer for scripts: rows with the same keys for every image, in JSON's types.

        Places in the image are pixels by name: `{"points": {"tip": [3.5, 7.0]}}`.
        """
        return [{"answer": line} for line in self.lines(answer)]

    def draw(self, file: Path, answer: Answer, out: Path) -> None:
        """Write a JPEG of the image with the answer in it.

        Raises:
            UserError: there is nothing to draw.
        """
        raise UserError(f"--draw is for models of points, and this one predicts {self.spec.named}.")

    @property
    def draws(self) -> bool:
        """Whether its answers can be drawn."""
        return type(self).draw is not Task.draw

    def changed_answers(self, stored: Outputs, now: Outputs) -> int:
        """Return how many of the answers are others than those that were stored."""
        return 0

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield what a model card says of the outputs: a heading and its text."""
        return iter(())

    @property
    def always(self) -> str:
        """What the network answers whatever it is shown: "with one of its 3 classes"."""
        return f"with {self.spec.named}"

    def beside_script(self) -> Mapping[str, Any]:
        """Return what lies beside an exported script, JSON by file name."""
        return {}

    def script(self) -> str:
        """Return the task's part of an exported predict.py: the file beside the task's module.

        A Jinja template of the macros question, constants, functions, changed and tell.
        """
        package = sys.modules[type(self).__module__].__package__
        assert package, "a task's module lies in a package, with script.py.j2 beside it"
        return files(package).joinpath("script.py.j2").read_text("utf-8")
