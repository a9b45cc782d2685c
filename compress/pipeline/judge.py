"""How right a cascade is on annotated photographs: box, points, direction, name, time.

A point NAME is annotated by the columns NAME_x and NAME_y, a box by x, y, width, height, all in
pixels of the upright photograph. What is not annotated is not judged.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from compress.data.pictures import DataSet, Picture
from compress.errors import UserError
from compress.files import write_text
from compress.input_spec import BOX
from compress.measure.accuracy import wilson
from compress.pipeline.cascade import Cascade, Found
from compress.pipeline.geometry import Point
from compress.results import Judged, Verdict


def judge(
    cascade: Cascade,
    data: DataSet,
    indices: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Judged]:
    """Runs the cascade on pictures of a data set, one after the other.

    Raises:
        UserError: labels none of which the cascade can give, or a file that is no picture.
    """
    labels = {data.pictures[i].label for i in indices} - {None}
    if cascade.classes and labels and not labels & set(cascade.classes):
        raise UserError(
            f"None of the {len(labels)} labels of {data.root} is among the {len(cascade.classes)} "
            "names that the pipeline gives: it was trained on others."
        )
    judged = []
    for number, index in enumerate(indices, 1):
        picture = data.pictures[index]
        try:
            found = cascade.find((data.root / picture.path).read_bytes())
        except UserError as error:
            raise UserError(f"{data.root / picture.path}: {error}") from error
        judged.append(judged_picture(cascade, picture, found))
        progress(number, len(indices))
    return judged


def judged_picture(cascade: Cascade, picture: Picture, found: Found) -> Judged:
    """Compares what was found with a picture's annotations."""
    box = _true_box(picture)
    both = [found.points[name] for name in BOX if name in found.points]
    iou = inside = None
    if box is not None and len(both) == 2:
        iou = intersection_over_union(tuple(both), box)
        middle = ((both[0][0] + both[1][0]) / 2, (both[0][1] + both[1][1]) / 2)
        inside = all(box[0][k] <= middle[k] <= box[1][k] for k in (0, 1))
    pairs = [
        (true, found.points[name])
        for name in cascade.warped
        if (true := _true_point(picture, name)) is not None
    ]
    distance = angle = None
    if len(pairs) == 2 and (length := math.dist(pairs[0][0], pairs[1][0])) > 0:
        distance = sum(math.dist(true, point) for true, point in pairs) / 2 / length
        angle = angle_between_degrees((pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1]))
    probabilities = found.probabilities
    rank = None
    if len(probabilities) and picture.label in cascade.classes:
        own = probabilities[cascade.classes.index(picture.label)]
        rank = 1 + int((probabilities > own).sum())
    return Judged(
        picture=picture.path,
        label=picture.label,
        named=cascade.name(found),
        probability=float(probabilities.max()) if len(probabilities) else None,
        rank=rank,
        iou=iou,
        centre_inside=inside,
        distance=distance,
        angle_error_degrees=angle,
        seconds=found.total_s,
        parts_s=found.seconds,
    )


def verdict(judged: Sequence[Judged], names_things: bool) -> Verdict:
    """Summary of at least one photograph.

    Args:
        names_things: whether the cascade ends with a classifier; a label that it cannot give then
            counts as wrong.
    """
    labelled = [x for x in judged if x.label is not None] if names_things else []
    seconds = [x.seconds for x in judged]

    def share(right: int) -> float | None:
        return right / len(labelled) if labelled else None

    return Verdict(
        pictures=len(judged),
        top1=wilson(sum(x.rank == 1 for x in labelled), len(labelled)) if labelled else None,
        top5=share(sum(x.rank is not None and x.rank <= 5 for x in labelled)),
        named=share(sum(x.named is not None for x in labelled)),
        mean_iou=_over(judged, "iou", lambda values: sum(values) / len(values)),
        centres_inside=_over(judged, "centre_inside", lambda values: sum(values) / len(values)),
        median_distance=_over(judged, "distance", median),
        median_angle_error_degrees=_over(judged, "angle_error_degrees", median),
        p50_s=float(np.quantile(seconds, 0.5)),
        p95_s=float(np.quantile(seconds, 0.95)),
        parts_s={name: median(x.parts_s[name] for x in judged) for name in judged[0].parts_s},
    )


def write_csv(judged: Sequence[Judged], path: Path) -> None:
    """One line a photograph; empty where nothing could be judged."""
    out = io.StringIO()
    columns = [name for name in Judged.model_fields if name != "parts_s"]
    parts = list(judged[0].parts_s) if judged else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*columns, *(f"{part}_s" for part in parts)])
    for x in judged:
        writer.writerow([*(getattr(x, name) for name in columns), *(x.parts_s[p] for p in parts)])
    write_text(path, out.getvalue())


def intersection_over_union(box: tuple[Point, ...], other: tuple[Point, ...]) -> float:
    """Of two upright boxes, each given by top left and bottom right; 0 where one is inside out."""
    sides = [max(0.0, min(box[1][k], other[1][k]) - max(box[0][k], other[0][k])) for k in (0, 1)]
    common = sides[0] * sides[1]
    together = _area(box) + _area(other) - common
    return common / together if together > 0 else 0.0


def angle_between_degrees(direction: tuple[Point, Point], other: tuple[Point, Point]) -> float:
    """Angle between two directions, each from the second point to the first; 0 to 180."""
    (p, q), (r, s) = ([complex(*point) for point in pair] for pair in (direction, other))
    turn = (r - s) * (p - q).conjugate()
    return math.degrees(abs(math.atan2(turn.imag, turn.real)))


def _area(box: tuple[Point, ...]) -> float:
    return max(0.0, box[1][0] - box[0][0]) * max(0.0, box[1][1] - box[0][1])


def _true_point(picture: Picture, name: str) -> Point | None:
    a = picture.annotations
    if f"{name}_x" not in a or f"{name}_y" not in a:
        return None
    return a[f"{name}_x"], a[f"{name}_y"]


def _true_box(picture: Picture) -> tuple[Point, Point] | None:
    a = picture.annotations
    if not {"x", "y", "width", "height"} <= a.keys():
        return None
    return (a["x"], a["y"]), (a["x"] + a["width"], a["y"] + a["height"])


def _over(
    judged: Sequence[Judged], name: str, summary: Callable[[list[float]], float]
) -> float | None:
    values = [float(v) for x in judged if (v := getattr(x, name)) is not None]
    return summary(values) if values else None
