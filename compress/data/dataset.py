"""A dataset: images on disk with label, split and annotations, and where they are stored."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compress.utils.files import write_text

if TYPE_CHECKING:
    import numpy as np

Split = Literal["train", "validation", "unlabelled", "tune"]
Point = tuple[float, float]  # x, y in pixels of the upright image


@dataclass(frozen=True)
class Sample:
    """One image; `annotations` are numbers by name, e.g. a box's x, y, width, height (pixels)."""

    path: str  # relative to the dataset's root
    label: str | None = None
    split: Split | None = None
    annotations: dict[str, float] = field(default_factory=dict)
    points: tuple[Point, ...] = ()  # where the task is points; none where they are not annotated
    size: tuple[int, int] | None = None  # width, height, upright; where it has points
    truth: Any = None  # what else a task is to predict, as JSON

    @property
    def is_labelled(self) -> bool:
        return self.label is not None or bool(self.points) or self.truth is not None


@dataclass(frozen=True)
class Dataset:
    """Images below `root`, in a fixed order, with classes (sorted by name), points or truths.

    Class names that are all numbers are sorted as such: 2 comes before 10, 2.0 before 10.0.
    """

    root: Path
    images: tuple[Sample, ...]
    skipped: tuple[str, ...] = ()  # unreadable files, with the reason
    points: tuple[str, ...] = ()  # their names; there are no classes then
    task: str = ""  # that it was read for, where that is neither classification nor keypoints
    task_settings: dict[str, Any] = field(default_factory=dict)  # as the recipe gives them
    notes: tuple[str, ...] = field(default=(), compare=False)  # how it was read; not stored

    @property
    def task_name(self) -> str:
        """The name of the task that the data was read for."""
        return self.task or ("keypoints" if self.points else "classification")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        names = sorted({p.label for p in self.images if p.label is not None})
        if all(re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", name) for name in names):
            names.sort(key=Decimal)  # exactly, also where a float would take two for one
        return tuple(names)

    @cached_property
    def labels(self) -> "np.ndarray":
        """Class indices, int64 (n,); -1 where unlabelled."""
        import numpy as np

        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([-1 if p.label is None else index[p.label] for p in self.images])

    @cached_property
    def coordinates(self) -> "np.ndarray":
        """Of the points, float64 (n, points, 2), in pixels; nan where not annotated."""
        import numpy as np

        unknown = [(np.nan, np.nan)] * len(self.points)
        return np.array([p.points or unknown for p in self.images], dtype=np.float64)

    @cached_property
    def sizes(self) -> "np.ndarray":
        """Width and height of the images that have points, float64 (n, 2); else nan."""
        import numpy as np

        return np.array([p.size or (np.nan, np.nan) for p in self.images], dtype=np.float64)

    def indices(self, *splits: Split) -> "np.ndarray":
        """Positions of the images in any of the splits, int64, in order."""
        import numpy as np

        return np.flatnonzero([p.split in splits for p in self.images])

    @property
    def watched(self) -> Split:
        """The split that is judged while networks train: that to tune on, where there is one."""
        return "tune" if any(p.split == "tune" for p in self.images) else "validation"

    def paths(self, indices: "np.ndarray") -> list[Path]:
        return [self.root / self.images[i].path for i in indices]

    @cached_property
    def single_image_indices(self) -> "np.ndarray":
        """The images of classes that have exactly one labelled image."""
        import numpy as np

        counts = Counter(p.label for p in self.images if p.label is not None)
        return np.flatnonzero([p.label is not None and counts[p.label] == 1 for p in self.images])

    @property
    def annotated(self) -> str:
        """What is known of its images: `of 3 classes`, `with left_eye and right_eye`."""
        if self.task:
            return f"for {self.task}"
        points = " and ".join(self.points)
        return f"with {points}" if points else f"of {len(self.classes)} classes"

    def describe(self) -> str:
        counts = Counter(p.split for p in self.images)
        text = (
            f"{counts['train']} training and {counts['validation']} validation images "
            f"{self.annotated}, {counts['unlabelled']} unlabelled"
        )
        text += f", {counts['tune']} to tune on" if counts["tune"] else ""
        return text + (f", {len(self.skipped)} unreadable skipped" if self.skipped else "")

    def save(self, folder: Path) -> None:
        """Writes `pictures.json`, and `split.csv` for people (Image,split).

        The root is not written: the same images elsewhere are the same dataset.
        """
        rows: list[list[object]]
        rows = [[p.path, p.label, p.split, p.annotations] for p in self.images]
        record: dict[str, object] = {"skipped": self.skipped, "pictures": rows}
        if self.points:
            rows = [[*row, p.points, p.size] for row, p in zip(rows, self.images, strict=True)]
            record |= {"pictures": rows, "points": self.points}
        if self.task:
            truths = [image.truth for image in self.images]
            record |= {"task": self.task, "settings": self.task_settings, "truths": truths}
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["Image", "split"])
        writer.writerows([p.path, p.split] for p in self.images if p.is_labelled)
        write_text(folder / "split.csv", table.getvalue())
        write_text(folder / "pictures.json", json.dumps(record))

    @classmethod
    def load(cls, folder: Path, root: Path) -> "Dataset":
        record = json.loads((folder / "pictures.json").read_text("utf-8"))
        images = [_sample(*row) for row in record["pictures"]]
        if "truths" in record:
            pairs = zip(images, record["truths"], strict=True)
            images = [replace(image, truth=truth) for image, truth in pairs]
        return cls(
            root,
            tuple(images),
            tuple(record["skipped"]),
            tuple(record.get("points", ())),
            record.get("task", ""),
            record.get("settings", {}),
        )


def _sample(
    path: str,
    label: str | None,
    split: Split | None,
    annotations: dict[str, float],
    points: Sequence[Sequence[float]] = (),
    size: Sequence[int] | None = None,
) -> Sample:
    """From a row of `pictures.json`, where tuples are lists."""
    placed = tuple((x, y) for x, y in points)
    return Sample(path, label, split, annotations, placed, (size[0], size[1]) if size else None)
