"""How long a photograph's way to a pipeline's networks takes: decoded, whole, cropped, turned.

    python benchmarks/image_path.py PHOTOGRAPH...

Prints medians of 200 calls in ms; the photographs take turns.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from compress.cascade.cascade import decode
from compress.cascade.views import View, around, brought_to, cut, whole
from compress.data.input_spec import InputSpec
from compress.measure.machine import machine

CALLS = 200
SIDES = 64, 128, 224  # pixels of an input


def main() -> None:
    files = [Path(name).read_bytes() for name in sys.argv[1:]]
    images = [decode(file) for file in files]
    print(f"{machine().cpu}, {len(files)} photographs, the first of {images[0].size} pixels")
    print(f"decoded: {median_ms(lambda i: decode(files[i % len(files)])):.3f} ms")
    for side in SIDES:
        spec = InputSpec(height=side, width=side, mean=(0,) * 3, std=(1,) * 3, fit="stretch")
        for name in views(images[0], spec):
            shown = [views(image, spec)[name] for image in images]

            def once(i: int, shown: list[View] = shown, side: int = side) -> None:
                cut(images[i % len(images)], shown[i % len(images)], side, side)

            print(f"{name}, {side} pixels: {median_ms(once):.3f} ms")


def median_ms(once: Callable[[int], object]) -> float:
    """Return the median time of CALLS calls, each told its number."""
    seconds = []
    for i in range(CALLS):
        started = time.perf_counter()
        once(i)
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def views(image: Image.Image, spec: InputSpec) -> dict[str, View]:
    """The whole, a crop inside, one that reaches over the edge, and one that is turned."""
    width, height = image.size
    inside = (0.3 * width, 0.3 * height), (0.6 * width, 0.6 * height)
    edge = (0.0, 0.3 * height), (0.3 * width, 0.6 * height)
    found = (0.6 * width, 0.6 * height), (0.35 * width, 0.4 * height)
    return {
        "whole": whole(image.size, spec),
        "crop": around(inside, 0.25, 1.0),
        "crop over the edge": around(edge, 0.25, 1.0),
        "turned": brought_to(found, [(0.8, 0.5), (0.26, 0.5)], 1.0),
    }


if __name__ == "__main__":
    main()
