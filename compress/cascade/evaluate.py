"""How right a cascade is on annotated photographs: box, points, direction, name, time.

A point NAME is annotated by the columns NAME_x and NAME_y, a box by x, y, width, height, all in
pixels of the upright photograph. What is not annotated is not judged.
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from compress.cascade.answer import Found
from compress.cascade.cascade import Cascade
from compress.cascade.views import Point
from compress.data.dataset import Dataset, Sample
from compress.data.image_files import written
from compress.data.input_spec import BOX
from compress.metrics.accuracy import wilson
from compress.metrics.keypoints import angle_errors, distances, iou
from compress.results.schema import JudgedPhotograph, Verdict
from compress.utils.errors import UserError
from compress.utils.files import write_text


def judge(
    cascade: Cascade,
    data: Dataset,
    indices: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[JudgedPhotograph]:
    """Runs the cascade on images of a dataset, one after the other.

    Raises:
        UserError: labels none of which the cascade can give, a file that is no image, or one
            without the annotations that the cascade begins with.
    """
    labels = {data.images[i].label for i in indices} - {None}
    if cascade.classes and labels and not labels & set(cascade.classes):
        raise UserError(
            f"None of the {len(labels)} labels of {data.root} is among the {len(cascade.classes)} "
            "names that the cascade gives: it was trained on others."
        )
    told = annotated_points(data, indices, cascade.annotated)
    judged = []
    for number, (index, points) in enumerate(zip(indices, told, strict=True), 1):
        image = data.images[index]
        try:
            found = cascade.find((data.root / image.path).read_bytes(), points)
        except UserError as error:
            raise UserError(f"{data.root / image.path}: {error}") from error
        judged.append(judged_image(cascade, image, found))
        progress(number, len(indices))
    return judged


def judged_image(cascade: Cascade, image: Sample, found: Found) -> JudgedPhotograph:
    """Compares what was found, and not told, with an image's annotations."""
    overlap = inside = distance = angle = None
    own = found.points.keys() - set(cascade.annotated)
    if (box := _true_box(image)) is not None and set(BOX) <= own:
        corners = _found(found, BOX)
        overlap = float(iou(corners, box)[0])
        middle = corners.mean(1)
        inside = bool(((box[:, 0] <= middle) & (middle <= box[:, 1])).all())
    pair = _true_pair(image, cascade.warped)
    if pair is not None and set(cascade.warped) <= own:
        points = _found(found, cascade.warped)
        distance = float(distances(points, pair, np.array([found.size])).mean())
        angle = float(angle_errors(points, pair)[0])
    probabilities = found.probabilities
    rank = None
    if len(probabilities) and image.label in cascade.classes:
        place = cascade.classes.index(image.label)
        right = probabilities[place]
        # Of equals the first counts, as it is the one that is named.
        rank = 1 + int((probabilities > right).sum() + (probabilities[:place] == right).sum())
    return JudgedPhotograph(
        image=written(image.path),
        label=image.label,
        named=cascade.name(found),
        probability=float(probabilities.max()) if len(probabilities) else None,
        rank=rank,
        iou=overlap,
        centre_inside=inside,
        distance=distance,
        angle_error_degrees=angle,
        seconds=found.total_s,
        parts_s=found.seconds,
    )


def annotated_points(
    data: Dataset, indices: Sequence[int], names: Sequence[str]
) -> list[dict[str, Point]]:
    """Return the points that are annotated of images, in pixels of the upright photograph.

    Raises:
        UserError: images of which they are not known.
    """
    found = [known_points(data.images[index]) for index in indices]
    lacking = [i for i, points in zip(indices, found, strict=True) if not set(names) <= set(points)]
    if lacking:
        path = data.images[lacking[0]].path
        raise UserError(
            f"{data.root}: {len(lacking)} of {len(indices)} images have no annotated "
            f"{', '.join(names)}, {path} for one: leave them out, or have the points found."
        )
    return [{name: points[name] for name in names} for points in found]


def known_points(image: Sample) -> dict[str, Point]:
    """Return all points that are known of an image, a box by its corners."""
    a = image.annotations
    found = {
        name: (a[column], a[f"{name}_y"])
        for column in a
        if column.endswith("_x") and f"{(name := column.removesuffix('_x'))}_y" in a
    }
    if (box := _true_box(image)) is not None:
        found |= {name: (x, y) for name, (x, y) in zip(BOX, box[0].tolist(), strict=True)}
    return found


def verdict(judged: Sequence[JudgedPhotograph], names_things: bool) -> Verdict:
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
        images=len(judged),
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


def write_csv(judged: Sequence[JudgedPhotograph], path: Path) -> None:
    """One line a photograph; empty where nothing could be judged."""
    out = io.StringIO()
    columns = [name for name in JudgedPhotograph.model_fields if name != "parts_s"]
    parts = list(judged[0].parts_s) if judged else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*columns, *(f"{part}_s" for part in parts)])
    for x in judged:
        writer.writerow([*(getattr(x, name) for name in columns), *(x.parts_s[p] for p in parts)])
    write_text(path, out.getvalue())


def _found(found: Found, names: Sequence[str]) -> np.ndarray:
    """(1, points, 2), as all of these arrays: compress/measure judges many images at once."""
    return np.array([[found.points[name] for name in names]])


def _true_pair(image: Sample, names: Sequence[str]) -> np.ndarray | None:
    """Two points; None where they are not annotated, or lie at one place: no direction, no size."""
    columns = [f"{name}_{axis}" for name in names for axis in "xy"]
    if len(names) != 2 or not set(columns) <= image.annotations.keys():
        return None
    pair = np.array([image.annotations[column] for column in columns]).reshape(1, 2, 2)
    return pair if (pair[:, 0] != pair[:, 1]).any() else None


def _true_box(image: Sample) -> np.ndarray | None:
    """Upper left and lower right corner."""
    a = image.annotations
    if not {"x", "y", "width", "height"} <= a.keys():
        return None
    return np.array([[[a["x"], a["y"]], [a["x"] + a["width"], a["y"] + a["height"]]]])


def _over(
    judged: Sequence[JudgedPhotograph], name: str, summary: Callable[[list[float]], float]
) -> float | None:
    values = [float(v) for x in judged if (v := getattr(x, name)) is not None]
    return summary(values) if values else None
