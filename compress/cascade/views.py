"""Where a network looks: views, which are affine maps from its input into the photograph.

Coordinates are continuous: an image's first pixel covers [0, 1) x [0, 1), x to the right, y down.
A point inside a network's input is given in fractions of the input's sides, as the networks give
them; a point in the photograph in its pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from compress.data.coordinates import kept
from compress.data.input_spec import GREY, InputSpec, letterboxed

Point = tuple[float, float]
# How many times as large as asked for whole factors leave what is scaled, at least. They take up to
# two thirds of the time; what is seen then differs by less than 0.8 of 255 on average (at 2.0 by up
# to 1.8, and by 12 at the worst pixel).
GAP = 2.5


@dataclass(frozen=True)
class View:
    """photograph = (a x + b y + c, d x + e y + f) for x, y in fractions of the view's sides."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def to_photograph(self, point: Point) -> Point:
        """Bring fractions of the view to pixels of the photograph."""
        x, y = point
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f

    def to_view(self, point: Point) -> Point:
        """Bring pixels of the photograph to fractions of the view."""
        x, y = point[0] - self.c, point[1] - self.f
        area = self.a * self.e - self.b * self.d
        return (self.e * x - self.b * y) / area, (self.a * y - self.d * x) / area

    def scaled(self, across: float, down: float) -> "View":
        """Return the same view of the photograph as it is where x and y are so many times."""
        return View(
            self.a * across, self.b * across, self.c * across,
            self.d * down, self.e * down, self.f * down,
        )  # fmt: skip

    def turned(self, angle_rad: float, aspect: float) -> "View":
        """Return the same view, turned about its centre; `aspect` is its width over its height."""
        cos, sin = math.cos(angle_rad), math.sin(angle_rad)
        # In fractions, turned about (1/2, 1/2): sides of unequal length shear the turn.
        p, q, r, s = cos, -sin / aspect, sin * aspect, cos
        u, v = 0.5 - 0.5 * (p + q), 0.5 - 0.5 * (r + s)
        return View(
            self.a * p + self.b * r, self.a * q + self.b * s, self.to_photograph((u, v))[0],
            self.d * p + self.e * r, self.d * q + self.e * s, self.to_photograph((u, v))[1],
        )  # fmt: skip


def whole(size: tuple[int, int], spec: InputSpec) -> View:
    """Return the view of a whole photograph, or of its centre, as the network's input asks.

    Args:
        size: width and height in pixels.
    """
    corner, extent = kept(np.array([size]), spec)
    [left, top], [width, height] = corner[0, 0].tolist(), extent[0, 0].tolist()
    return View(width, 0.0, left, 0.0, height, top)


def around(points: Sequence[Point], margin: float, aspect: float) -> View:
    """Return the upright view around points, of the given width over height, nothing distorted.

    Args:
        points: pixels of the photograph; two corners of a box, say.
        margin: added on each side, as a share of the longer side of the points' box.
    """
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    added = 2 * margin * max(right - left, bottom - top)
    # A network's answer can have no extent at all; a view of one pixel is the least there is.
    width, height = max(right - left + added, 1.0), max(bottom - top + added, 1.0)
    width, height = max(width, height * aspect), max(height, width / aspect)
    x, y = (left + right - width) / 2, (top + bottom - height) / 2
    return View(width, 0.0, x, 0.0, height, y)


def brought_to(found: Sequence[Point], wanted: Sequence[Point], aspect: float) -> View:
    """Return the view in which two points of the photograph lie where they are wanted.

    A similarity: turned, scaled and moved, neither mirrored nor sheared.

    Args:
        found: pixels of the photograph.
        wanted: the same two in fractions of the view.
        aspect: width of the view over its height.
    """
    (p, q), (u, v) = ([complex(*point) for point in found], [_metric(x, aspect) for x in wanted])
    distance = p - q
    if abs(distance) < 1.0:  # both at one place: no direction to turn to, and no size
        distance = complex(1.0, 0.0)
    turn = distance / (u - v)
    shift = (p + q) / 2 - turn * (u + v) / 2
    across, down = turn * aspect, turn * 1j
    return View(across.real, down.real, shift.real, across.imag, down.imag, shift.imag)


def _metric(point: Point, aspect: float) -> complex:
    """Bring fractions of the view's sides to units of its height."""
    return complex(point[0] * aspect, point[1])


def cut(
    photograph: Image.Image, view: View, width: int, height: int, letterbox: bool = False
) -> np.ndarray:
    """Return what a view shows, uint8 (height, width, channels).

    Outside of the photograph is its mean colour, or that of the part that is reduced; of a
    letterbox, GREY, and where that is upright, it is what networks are trained on. Another upright
    view inside the photograph is scaled as `data.input_spec` scales images, the last GAP times at
    least, and before that by whole factors. Any other is looked up bilinearly; where it shrinks the
    photograph, that is first reduced by whole factors, so that no detail is skipped over.

    Args:
        letterbox: whether the view is that of a whole photograph in one, or a turn of it.
    """
    if letterbox and view.b == view.d == 0 and view.a > 0:
        boxed = letterboxed(photograph, (width, height))
        return np.asarray(boxed, dtype=np.uint8).reshape(height, width, -1)
    if (box := _upright_box(view, photograph.size)) is not None:
        scaled = photograph.resize((width, height), Image.Resampling.BILINEAR, box, GAP)
        return np.asarray(scaled, dtype=np.uint8).reshape(height, width, -1)
    to_pixels = (1 / width, 1 / height)
    a, b, d, e = (
        view.a * to_pixels[0], view.b * to_pixels[1], view.d * to_pixels[0], view.e * to_pixels[1],
    )  # fmt: skip
    c, f = view.c, view.f
    inside = _is_inside(view, photograph.size)
    factor = max(1, int(min(math.hypot(a, d), math.hypot(b, e))))
    seen = _seen(view, photograph.size, margin=2 * factor)
    if factor > 1 and seen is not None:
        photograph = photograph.reduce(factor, seen)
        c, f = c - seen[0], f - seen[1]
        a, b, c, d, e, f = (x / factor for x in (a, b, c, d, e, f))
    beside = None
    if not inside:
        beside = GREY[: len(photograph.getbands())] if letterbox else _mean_colour(photograph)
    shown = photograph.transform(
        (width, height),
        Image.Transform.AFFINE,
        (a, b, c, d, e, f),
        Image.Resampling.BILINEAR,
        fillcolor=beside,
    )
    return np.asarray(shown, dtype=np.uint8).reshape(height, width, -1)


def _mean_colour(photograph: Image.Image) -> tuple[int, ...]:
    """Return the mean of 16 x 16 pixels that are spread evenly."""
    some = np.asarray(photograph.resize((16, 16), Image.Resampling.NEAREST))
    return tuple(map(round, some.reshape(256, -1).mean(0).tolist()))


def _is_inside(view: View, size: tuple[int, int]) -> bool:
    """Whether a view shows nothing but the photograph."""
    corners = [view.to_photograph((x, y)) for x in (0.0, 1.0) for y in (0.0, 1.0)]
    return all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in corners)


def _upright_box(view: View, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Return left, top, right, bottom of an upright view within the photograph; None of others."""
    box = (view.c, view.f, view.c + view.a, view.f + view.e)
    within = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
    upright = view.b == view.d == 0 and view.a > 0 and view.e > 0
    return box if upright and within else None


def _seen(view: View, size: tuple[int, int], margin: int) -> tuple[int, int, int, int] | None:
    """Return the part of the photograph that a view shows, with a margin; None if nothing."""
    corners = [view.to_photograph((x, y)) for x in (0.0, 1.0) for y in (0.0, 1.0)]
    left = max(0, math.floor(min(x for x, _ in corners)) - margin)
    top = max(0, math.floor(min(y for _, y in corners)) - margin)
    right = min(size[0], math.ceil(max(x for x, _ in corners)) + margin)
    bottom = min(size[1], math.ceil(max(y for _, y in corners)) + margin)
    return (left, top, right, bottom) if left < right and top < bottom else None
