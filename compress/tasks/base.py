"""What a task is: all that depends on what is predicted of an image, and when it is right."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from compress.data.dataset import DataSet
from compress.data.input_spec import InputSpec
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.results.schema import Accuracy

if TYPE_CHECKING:
    from torch import Tensor

Answer = TypeVar("Answer")
Correct = Callable[[np.ndarray], np.ndarray]  # outputs (n, outputs) -> bool (n,)
Ask = Callable[[np.ndarray], np.ndarray]  # positions in a data set (n,) -> outputs (n, outputs)


class Task(ABC, Generic[Answer]):
    """One task with one network's input spec; importing it imports no torch.

    `Answer` is what people are told of one image.

    Attributes:
        word: what the share of images that the network answers right is called.
    """

    word: ClassVar[str]

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    # The data

    @abstractmethod
    def read(self, folder: Path, columns: Sequence[str]) -> tuple[DataSet, list[str]]:
        """Return a folder's images to judge the network on, and what was left out, in sentences.

        Args:
            columns: of the annotations, where they are called otherwise than usual.

        Raises:
            UserError: annotations of other things than the network predicts.
        """

    @abstractmethod
    def targets(self, data: DataSet) -> np.ndarray:
        """Return what the network is to answer for every image, (n, …); unlabelled ones too."""

    @abstractmethod
    def targets_in_views(self, targets: np.ndarray, views: np.ndarray) -> "Tensor":
        """Return the targets of images (n, …) in views of them, float32 (n, fields)."""

    @abstractmethod
    def check_weights(self, metadata: Mapping[str, Any]) -> InputSpec:
        """Return the spec in the order of outputs that weights say; refuse those of another task.

        Raises:
            UserError: what they predict instead.
        """

    # When an answer is right

    @abstractmethod
    def correct(
        self, data: DataSet, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Correct:
        """Return what says which outputs are right, in the order of `indices`."""

    @abstractmethod
    def score(
        self,
        ask: Ask,
        data: DataSet,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return all that is measured of the answers.

        Args:
            ask: gives the outputs for positions in the data set.
            indices: of the images that are judged.
            in_run: whether `data` has a training split that this network was trained on.
        """

    @abstractmethod
    def guess(self, data: DataSet, tolerance: KeypointTolerance) -> tuple[str, float]:
        """Return what to answer without a look at the image, and the share it is right for."""

    @property
    @abstractmethod
    def order_of(self) -> str:
        """What may stand in another order than the network's: "classes"."""

    # Training

    @abstractmethod
    def label_loss(self, smoothing: float) -> "Callable[[Tensor, Tensor], Tensor]":
        """Return the loss of outputs (n, outputs) against targets; unlabelled ones do not count."""

    @abstractmethod
    def teacher_loss(self, settings: Any) -> "Callable[[Tensor, Tensor, Tensor], Tensor]":
        """Return the loss of outputs against the teacher's and the targets.

        Args:
            settings: of one of the task's losses, by its name in recipes.
        """

    @abstractmethod
    def kept_outputs(self, top_k: int) -> int:
        """Return how many of the teacher's outputs are cached for a view, the largest first."""

    @abstractmethod
    def drawn_loss(self, outputs: "Tensor") -> "Tensor":
        """Return the loss against targets drawn from what the outputs say, summed over images.

        Its squared gradient is the Fisher information.
        """

    # Deployed

    @abstractmethod
    def answers(self, outputs: np.ndarray, files: Sequence[Path]) -> Iterator[Answer]:
        """Yield what people are told of each image."""

    @abstractmethod
    def lines(self, answer: Answer) -> list[str]:
        """Return an answer as it is printed."""

    @abstractmethod
    def draw(self, file: Path, answer: Answer, out: Path) -> None:
        """Write a JPEG of the image with the answer in it.

        Raises:
            UserError: there is nothing to draw.
        """

    @abstractmethod
    def changed_answers(self, stored: np.ndarray, now: np.ndarray) -> int:
        """Return how many of the answers are others than those that were stored."""

    @abstractmethod
    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what a model card says of the outputs: a heading and its text."""

    @property
    @abstractmethod
    def always(self) -> str:
        """What the network answers whatever it is shown: "with one of its 3 classes"."""

    @abstractmethod
    def beside_script(self) -> Mapping[str, Any]:
        """Return what lies beside an exported script, JSON by file name."""

    # Fields of the spec that an exported script does not need.
    unused_in_script: ClassVar[Collection[str]] = ()

    def script(self) -> str:
        """Return the task's part of an exported predict.py: the file beside the task's module.

        A Jinja template of the macros question, outputs, constants, functions, changed and tell.
        """
        package = type(self).__module__.rpartition(".")[0]
        return files(package).joinpath("script.py.j2").read_text("utf-8")
