"""Points instead of classes: which annotation columns hold them, and where they lie in an input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from compress.data.coordinates import upright_size
from compress.data.dataset import DataSet, Picture, Point
from compress.data.input_spec import BOX
from compress.utils.errors import UserError

BOX_COLUMNS = ("x", "y", "width", "height")
MAX_MISPLACED = 0.01  # fraction of the annotated pictures whose annotation may be impossible
MARGIN = 1.0  # pixels by which an annotation may leave its picture: tools round


@dataclass(frozen=True)
class PointColumns:
    """The columns of x and y of each point in turn; of a box, which comes first, those of x, y,
    width and height.

    They are in pixels of the upright picture: annotation tools show pictures as people see them.
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
        """Of one picture; empty where a column of it is."""
        values = [annotations.get(column, np.nan) for column in self.columns]
        if not np.isfinite(values).all():
            return ()
        if self.names[:2] == BOX:
            x, y, width, height = values[:4]
            values[2:4] = x + width, y + height
        return tuple(zip(values[::2], values[1::2], strict=True))


def take_points(data: DataSet, columns: PointColumns) -> DataSet:
    """The data set with points instead of labels; pictures without all of them are unlabelled.

    Raises:
        UserError: columns that no table has, or no picture with points.
    """
    known = sorted({name for picture in data.pictures for name in picture.annotations})
    missing = [column for column in columns.columns if column not in known]
    if missing:
        near = [x for column in missing for x in get_close_matches(column, known, 1)]
        hint = f" Did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
        raise UserError(
            f"{data.root} has no tables with numbers in {', '.join(missing)}; there are "
            f"{', '.join(known) or 'none'}.{hint}"
        )

    def taken(picture: Picture) -> Picture:
        points = columns.points(picture.annotations)
        split = picture.split if points else "unlabelled"
        return replace(picture, label=None, points=points, split=split)

    pictures = tuple(map(taken, data.pictures))
    if not any(picture.points for picture in pictures):
        raise UserError(
            f"{data.root}: no picture has numbers in all of {', '.join(columns.columns)}."
        )
    return replace(data, pictures=pictures, points=columns.names)


def drop_misplaced(data: DataSet, note: Callable[[str], None]) -> DataSet:
    """Notes every picture's size; annotations that cannot be are named, their pictures unlabelled.

    A point may leave its picture by MARGIN. Points of one picture must differ, and a box have an
    area: distances are judged relative to them.

    Raises:
        UserError: more than 1 % cannot be: they are in pixels of other pictures, probably.
    """
    pictures, faults = [], []
    for picture in data.pictures:
        if picture.points:
            picture = replace(picture, size=upright_size(data.root / picture.path))
            if fault := _fault(picture, data.points[:2] == BOX):
                faults.append(f"{picture.path}: {fault}")
                picture = replace(picture, points=(), split="unlabelled")
        pictures.append(picture)
    annotated = sum(bool(picture.points) for picture in data.pictures)
    if len(faults) > MAX_MISPLACED * annotated:
        shown = "\n  ".join(faults[:10])
        raise UserError(
            f"{len(faults)} of {annotated} annotations in {data.root} cannot be, more than "
            f"{MAX_MISPLACED:.0%}:\n  {shown}\nGive pixels of these very pictures, upright, or "
            "remove the lines."
        )
    for fault in faults:
        note(f"annotation not used: {fault}")
    return replace(data, pictures=tuple(pictures))


def _fault(picture: Picture, box: bool) -> str | None:
    assert picture.size is not None
    points = np.array(picture.points)
    if (points < -MARGIN).any() or (points > np.array(picture.size) + MARGIN).any():
        at = ", ".join(f"({x:g}, {y:g})" for x, y in picture.points)
        return f"{at} is outside the picture of {picture.size[0]} x {picture.size[1]}"
    if box and (points[1] <= points[0]).any():
        return "the box has no area"
    rest = points[2:] if box else points
    if len(rest) > 1 and not np.ptp(rest, axis=0).any():
        return "all points are one"
    return None
