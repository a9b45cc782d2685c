"""Points instead of classes: which annotation columns hold them, and where they lie in an input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from compress.data.coordinates import upright_size
from compress.data.dataset import Dataset, Point, Sample
from compress.data.input_spec import BOX
from compress.utils.errors import UserError

BOX_COLUMNS = ("x", "y", "width", "height")
MAX_MISPLACED = 0.01  # fraction of the annotated images whose annotation may be impossible
MARGIN = 1.0  # pixels by which an annotation may leave its image: tools round


@dataclass(frozen=True)
class PointColumns:
    """The columns of x and y of each point in turn; of a box, which comes first, those of x, y,
    width and height.

    They are in pixels of the upright image: annotation tools show images as people see them.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str], columns: Sequence[str] = ()) -> "PointColumns":
        """Without columns they are called <point>_x and <point>_y; of a box as in BOX_COLUMNS.

        A box comes before other points.

        Raises:
            UserError: another number of columns than the points need.
        """
        usual = tuple(f"{name}_{axis}" for name in names for axis in "xy")
        if tuple(names[:2]) == BOX:
            usual = (*BOX_COLUMNS, *usual[4:])
        if columns and len(columns) != len(usual):
            raise UserError(
                f"{', '.join(names)} need {len(usual)} columns, such as {', '.join(usual)}, not "
                f"{', '.join(columns)}."
            )
        return cls(tuple(names), tuple(columns) or usual)

    def points(self, annotations: Mapping[str, float]) -> tuple[Point, ...]:
        """Of one image; empty where a column of it is."""
        values = [annotations.get(column, np.nan) for column in self.columns]
        if not np.isfinite(values).all():
            return ()
        if self.names[:2] == BOX:
            x, y, width, height = values[:4]
            values[2:4] = x + width, y + height
        return tuple(zip(values[::2], values[1::2], strict=True))


def take_points(data: Dataset, columns: PointColumns) -> Dataset:
    """The dataset with points instead of labels; images without all of them are unlabelled.

    Raises:
        UserError: columns that no table has, or no image with points.
    """
    known = sorted({name for image in data.images for name in image.annotations})
    missing = [column for column in columns.columns if column not in known]
    if missing:
        near = [x for column in missing for x in get_close_matches(column, known, 1)]
        hint = f" Did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
        raise UserError(
            f"{data.root} has no tables with numbers in {', '.join(missing)}; there are "
            f"{', '.join(known) or 'none'}.{hint}"
        )

    def taken(image: Sample) -> Sample:
        points = columns.points(image.annotations)
        split = image.split if points else "unlabelled"
        return replace(image, label=None, points=points, split=split)

    images = tuple(map(taken, data.images))
    if not any(image.points for image in images):
        raise UserError(
            f"{data.root}: no image has numbers in all of {', '.join(columns.columns)}."
        )
    return replace(data, images=images, points=columns.names)


def drop_misplaced(data: Dataset, note: Callable[[str], None]) -> Dataset:
    """Notes every image's size; annotations that cannot be are named, their images unlabelled.

    A point may leave its image by MARGIN. Points of one image must differ, and a box have an
    area: distances are judged relative to them.

    Raises:
        UserError: more than 1 % cannot be: they are in pixels of other images, probably.
    """
    images, faults = [], []
    for image in data.images:
        if image.points:
            image = replace(image, size=upright_size(data.root / image.path))
            if fault := _fault(image, data.points[:2] == BOX):
                faults.append(f"{image.path}: {fault}")
                image = replace(image, points=(), split="unlabelled")
        images.append(image)
    annotated = sum(bool(image.points) for image in data.images)
    if len(faults) > MAX_MISPLACED * annotated:
        shown = "\n  ".join(faults[:10])
        raise UserError(
            f"{len(faults)} of {annotated} annotations in {data.root} cannot be, more than "
            f"{MAX_MISPLACED:.0%}:\n  {shown}\nGive pixels of these very images, upright, or "
            "remove the lines."
        )
    for fault in faults:
        note(f"annotation not used: {fault}")
    return replace(data, images=tuple(images))


def _fault(image: Sample, box: bool) -> str | None:
    assert image.size is not None
    points = np.array(image.points)
    if (points < -MARGIN).any() or (points > np.array(image.size) + MARGIN).any():
        at = ", ".join(f"({x:g}, {y:g})" for x, y in image.points)
        return f"{at} is outside the image of {image.size[0]} x {image.size[1]}"
    if box and (points[1] <= points[0]).any():
        return "the box has no area"
    rest = points[2:] if box else points
    if len(rest) > 1 and not np.ptp(rest, axis=0).any():
        return "all points are one"
    return None
