"""Grey images of 16 or 32 bits, integers or floats: the range that their numbers are scaled by."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

JPEG = {".jpg", ".jpeg"}  # never deep: not even opened for it
WAY_OUT = "divide all by the same number, and save all with 8 bits a channel"


def full_range(values: "np.ndarray") -> int:
    """Return the largest number of the range that an image's values, from 0, are taken to have.

    It is 1 where floats end there (at most at 1.1: scaling an image overshoots a little). Otherwise
    it is that of the smallest number of bits, in steps of four from 8, that holds the largest
    value: 12 bits in a file of 16 are seen as such.
    """
    high = float(values.max())
    if values.dtype.kind == "f" and high <= 1.1:
        return 1
    return int(2 ** max(8, -(-int(high).bit_length() // 4) * 4)) - 1


def range_of(path: Path) -> int | None:
    """Return `full_range` of an image file; None where it is not deep, all black, or no image."""
    if path.suffix.lower() in JPEG:
        return None
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode[0] not in "IF":
                return None
            values = np.asarray(file)
        return full_range(values) if values.max() > 0 else None
    except Exception:  # whoever reads it says what is wrong with it
        return None


def by_range(ranges: Iterable[tuple[str, int | None]]) -> dict[int, list[str]]:
    """Return the deep ones of images, which are by name, by their ranges, in the order of these."""
    found: dict[int, list[str]] = {}
    for name, full in ranges:
        if full is not None:
            found.setdefault(full, []).append(name)
    return dict(sorted(found.items()))


def several(found: Mapping[int, list[str]]) -> str:
    """Return what is wrong with deep images of several ranges, which `by_range` found."""
    said: list[str] = []
    for full, names in found.items():
        more = ", …" if len(names) > 1 else ""
        said.append(f"{len(names)} {'' if said else 'hold numbers '}to {full} ({names[0]}{more})")
    return (
        "images of 16 or 32 bits whose ranges differ, and each would be made brighter or darker by "
        f"its own: {', '.join(said)}. Of each its largest value says it: {WAY_OUT}."
    )
