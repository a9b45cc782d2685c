"""Points, a box or both in an image: x and y of each, right where all are near enough."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.coordinates import to_image, to_input, upright_size
from compress.data.dataset import Dataset, Point
from compress.data.draw import draw_points
from compress.data.input_spec import BOX, InputSpec
from compress.data.keypoints import PointColumns, drop_misplaced
from compress.data.layouts import read_folder
from compress.metrics.accuracy import wilson
from compress.metrics.keypoints import USUAL, KeypointTolerance, distances, errors, iou
from compress.results.schema import RIGHT, Accuracy
from compress.runtimes.outputs import Outputs
from compress.tasks.base import Ask, Judge, Source, Task, TensorOutputs
from compress.tasks.keypoints.settings import Columns, Points, PointsAndAttention
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Places = Mapping[str, Point]  # x, y in pixels of the upright image, by the points' names


class Keypoints(Task[Places]):
    """Where the same points are in every image; the first two may be a box."""

    name = "keypoints"
    has_places = True
    word = RIGHT
    right_or_wrong = True
    settings = Columns
    losses = (Points, PointsAndAttention)
    order_of = "points"  # as the recipe names them
    unused_in_script = ("classes",)
    trains_with = ("mirror: same",)

    @classmethod
    def read(cls, source: Source, settings: Columns) -> Dataset:
        """Return images with points, annotated in a table."""
        columns = PointColumns.of(settings.names, settings.columns)
        return read_folder(source.path, source.image_column, source.label_column, columns)

    @classmethod
    def checked(cls, data: Dataset, note: Callable[[str], None]) -> Dataset:
        """Leave out images whose points lie outside of them."""
        return drop_misplaced(data, note)

    @classmethod
    def tolerances(cls, settings: Columns) -> Collection[str]:
        """Return `iou` where there is a box, `tolerance` where there are other points."""
        has_box = tuple(settings.names[:2]) == BOX
        others = len(settings.names) > 2 * has_box
        return ("iou",) * has_box + ("tolerance",) * others

    @classmethod
    def likely_outputs(cls, settings: Columns) -> int:
        """Return two a point."""
        return 2 * len(settings.names)

    @classmethod
    def predicts(cls, data: Dataset) -> dict[str, Any]:
        """Return the points' names."""
        return {"points": data.points}

    def read_more(self, folder: Path, columns: Sequence[str]) -> Dataset:
        """Return a folder's images with their points, found by the columns' names."""
        return read_folder(folder, points=PointColumns.of(self.spec.points, columns))

    def targets(self, data: Dataset) -> np.ndarray:
        """Return x and y of each point as input fractions, float32 (n, outputs), or nan."""
        fractions = to_input(data.coordinates, data.sizes, self.spec)
        return fractions.reshape(len(fractions), -1).astype(np.float32)

    def targets_in_views(self, targets: np.ndarray, views: np.ndarray) -> "Tensor":
        """Return where the points lie in the views."""
        import torch

        from compress.tasks.keypoints.views import move_points

        return move_points(torch.from_numpy(targets), views, self.spec)

    def check_weights(self, metadata: Mapping[str, Any]) -> InputSpec:
        """Refuse weights of other points, or of classes."""
        spec = metadata.get("spec") or {}
        theirs = tuple(spec.get("points", ()))
        if spec and theirs != self.spec.points:
            named = f"the points {', '.join(theirs)}" if theirs else "classes"
            raise UserError(
                f"The teacher's weights predict {named}, the data has the points "
                f"{', '.join(self.spec.points)}: name the same points in the same order, or "
                "train the last part anew (teacher.train_only)."
            )
        return self.spec

    def judge(
        self, data: Dataset, indices: np.ndarray, tolerance: KeypointTolerance = USUAL
    ) -> Judge:
        """Return whether all points are near enough and the boxes overlap.

        The percentage of correct keypoints (PCK: Yang & Ramanan 2013, IEEE PAMI 35:2878-2890),
        asked of all points of an image at once; a box by its intersection over union with the
        true one. Where there are both, both are asked.
        """
        true, sizes = data.coordinates[indices], data.sizes[indices]

        def right(outputs: Outputs) -> list[bool]:
            found = to_image(coordinates(outputs["coordinates"]), sizes, self.spec)
            near = np.ones(len(found), bool)
            if self.spec.has_box:
                near &= iou(found[:, :2], true[:, :2]) >= tolerance.iou
            if rest := self.spec.without_box:
                far = distances(found[:, -len(rest) :], true[:, -len(rest) :], sizes)
                near &= (far <= tolerance.distance).all(1)
            return [bool(x) for x in near]

        return right

    def score(
        self,
        ask: Ask,
        data: Dataset,
        indices: np.ndarray,
        tolerance: KeypointTolerance,
        in_run: bool,
    ) -> Accuracy:
        """Return the share of images answered right, and how far the points are."""
        outputs = ask(indices)
        right = self.judge(data, indices, tolerance)(outputs)
        true, sizes = data.coordinates[indices], data.sizes[indices]
        found = to_image(coordinates(outputs["coordinates"]), sizes, self.spec)
        return Accuracy(
            images=len(right),
            top1=wilson(sum(right), len(right)),
            correct="".join("1" if each else "0" for each in right),
            points=errors(found, true, sizes, self.spec.has_box, tolerance),
        )

    def guess(self, data: Dataset, tolerance: KeypointTolerance) -> tuple[str, float]:
        """Return the share for which the median place of the training images is right."""
        validation = data.indices("validation")
        middle = np.median(self.targets(data)[data.indices("train")], axis=0)
        answers = {"coordinates": np.tile(middle, (len(validation), 1))}
        right = self.judge(data, validation, tolerance)(answers)
        return "the middle place", float(np.mean(right))

    def label_loss(self, smoothing: float) -> "Callable[[TensorOutputs, Tensor], Tensor]":
        """Return how far the coordinates are from the annotated ones."""
        from compress.tasks.keypoints.losses import annotated

        return lambda outputs, targets: annotated(outputs["coordinates"], targets)

    def teacher_loss(
        self, settings: Any
    ) -> "Callable[[TensorOutputs, TensorOutputs, Tensor], Tensor]":
        """Return how far the coordinates are from the teacher's."""
        from compress.tasks.keypoints.losses import points

        return lambda ours, teachers, _: points(ours["coordinates"], teachers["coordinates"])

    def answers(self, outputs: Outputs, images: Sequence[Path]) -> Iterator[Places]:
        """Yield where the points are, in pixels of the upright image."""
        sizes = np.array([upright_size(file) for file in images])
        found = to_image(coordinates(outputs["coordinates"]), sizes, self.spec)
        for places in found.tolist():
            yield {name: (x, y) for name, (x, y) in zip(self.spec.points, places, strict=True)}

    def lines(self, answer: Places) -> list[str]:
        """Return a line for each point."""
        return [f"{name}: {x:.1f}, {y:.1f}" for name, (x, y) in answer.items()]

    def rows(self, answer: Places) -> list[dict[str, Any]]:
        """Return one row with all points."""
        return [{"points": {name: [x, y] for name, (x, y) in answer.items()}}]

    def draw(self, file: Path, answer: Places, out: Path) -> None:
        """Mark the points."""
        draw_points(file, answer, out)

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield the points' names."""
        yield "points", ", ".join(self.spec.points)

    @property
    def always(self) -> str:
        """With points."""
        return "with points"


def coordinates(outputs: np.ndarray) -> np.ndarray:
    """Return outputs (n, 2 x points) as float64 (n, points, 2)."""
    return outputs.reshape(len(outputs), -1, 2).astype(np.float64)
