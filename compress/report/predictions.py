"""What a model says of images, for scripts: JSON or CSV, written image by image.

An answer is a list of rows, each a mapping with the same keys, in JSON's types. In CSV, points
become two columns each, called as tables for training call them: `tip_x`, `tip_y`.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from compress.utils.errors import UserError

Row = Mapping[str, Any]
Said = Sequence[Row] | UserError  # of one image; the error where it could not be read


def write_json(found: Iterable[tuple[Path, Said]], out: TextIO) -> None:
    """Write a list with a mapping for each image, on a line of its own."""
    out.write("[")
    for number, (image, said) in enumerate(found):
        told = {"error": str(said)} if isinstance(said, UserError) else {"answers": said}
        line = json.dumps({"image": str(image), **told}, ensure_ascii=False)
        out.write(f"{',' if number else ''}\n{line}")
    out.write("\n]\n")


def write_csv(found: Iterable[tuple[Path, Said]], out: TextIO) -> None:
    """Write a row for each row of an answer, and one for an image without: its error, or nothing.

    What the columns are is known from the first answer; what comes before it waits.
    """
    writer: csv.DictWriter[str] | None = None
    waiting: list[dict[str, Any]] = []
    for image, said in found:
        for row in _cells(image, said):
            waiting.append(row)
            if writer is None and not isinstance(said, UserError) and said:
                writer = _begun(out, list(row))
            if writer is not None:
                writer.writerows(waiting)
                waiting.clear()
    if writer is None:
        _begun(out, ["image"]).writerows(waiting)


def _begun(out: TextIO, columns: list[str]) -> "csv.DictWriter[str]":
    writer = csv.DictWriter(out, [*columns, "error"], restval="", lineterminator="\n")
    writer.writeheader()
    return writer


def _cells(image: Path, said: Said) -> Iterator[dict[str, Any]]:
    """Yield the rows of one image as they stand in a table."""
    if isinstance(said, UserError):
        yield {"image": image, "error": said}
        return
    for row in said or [{}]:
        cells: dict[str, Any] = {"image": image}
        for key, value in row.items():
            cells |= _places(value) if key == "points" else {key: value}
        yield cells


def _places(points: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return x and y of each point by the names of their columns."""
    return {
        f"{name}_{axis}": value
        for name, place in points.items()
        for axis, value in zip("xy", place, strict=True)
    }
