"""What is on these photographs? python predict.py PHOTOGRAPH...

Needs onnxruntime, numpy and pillow (requirements.txt), nothing else. Cuts, turns, prepares and runs
by the very code with which the numbers in README.md were measured. In a program of your own:

    networks, min_probability = load(HERE, open_model)
    found = find(photograph_bytes, networks)
"""

from __future__ import annotations
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
import base64
import ctypes
import io
import json
import math
import os
import platform
import sys
import time
import warnings
from PIL import Image
import numpy as np


def inside(folder: Path, name: str) -> Path | None:
    """`folder / name` without `..`, or None when the name leads out (`../../etc/passwd`).

    Links that the user made are followed: big datasets often lie on another disk.
    """
    path = Path(os.path.normpath(folder / name))
    return path if path.is_relative_to(os.path.normpath(folder)) else None


class UserError(Exception):
    """Something the user can mend. The message names the cause and the fix; the exit code is 2."""

    exit_code = 2


def normalise(images: "np.ndarray", spec: InputSpec) -> "np.ndarray":
    """uint8 (n, height, width, channels), RGB or grey, prepared for the network.

    Returns:
        float32 (n, channels, height, width), in the spec's order of channels.
    """
    import numpy as np

    if spec.channels == "bgr":
        images = images[..., ::-1]
    # By planes: NumPy takes four times as long to repeat three numbers along the last axis.
    scaled = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    scaled /= 255
    scaled -= np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    scaled /= np.asarray(spec.std, dtype=np.float32)[:, None, None]
    return scaled


@dataclass
class Network:
    """A stage's loaded model, and how it is fed."""

    stage: CascadeStage
    spec: InputSpec
    session: Session

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Return the first output for uint8 images (n, height, width, channels)."""
        return self.answers(normalise(images, self.spec))

    def answers(self, prepared: np.ndarray) -> np.ndarray:
        """Return the first output for float32 images (n, channels, height, width)."""
        if self.session.batch_size in (None, len(prepared)):
            return self._first(prepared)
        size = self.session.batch_size or 1
        filled = [
            np.resize(x, (size, *x.shape[1:]))
            for x in np.array_split(prepared, -(-len(prepared) // size))
        ]
        return np.concatenate([self._first(x) for x in filled])[: len(prepared)]

    def _first(self, prepared: np.ndarray) -> np.ndarray:
        """Return the first output as the file has it: logits, or x and y of points."""
        return next(iter(self.session.run(prepared).values()))


def _network(folder: Path, described: Any, open_model: OpenModel) -> Network:
    """Load a stage's model; the file itself says how it is fed."""
    path = inside(folder, described["model"])
    if path is None:
        raise UserError(f"{described['name']}'s model lies outside of {folder}.")
    session = open_model(path)
    fed: Any = SimpleNamespace(**{"channels": "rgb"} | json.loads(session.spec or ""))
    fed.size = (fed.height, fed.width)
    fed.shape = (1 if fed.channels == "grey" else 3, *fed.size)
    usual = dict.fromkeys(("crop", "warp", "least_photograph_px"))
    stage: Any = SimpleNamespace(**usual | described)
    if stage.crop is not None:
        stage.crop = SimpleNamespace(**stage.crop)
    return Network(stage, fed, session)


def load(folder: Path, open_model: OpenModel) -> tuple[list[Network], float]:
    """Return the networks, in their order, and how sure the last must be to give a name.

    Raises:
        UserError: pipeline.json cannot be read, or a model lies elsewhere or cannot be loaded.
    """
    file = folder / "pipeline.json"
    try:
        cascade = json.loads(file.read_text("utf-8"))
        networks = [_network(folder, stage, open_model) for stage in cascade["stages"]]
        return networks, cascade["min_probability"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error!r}): export the cascade again.") from error


COUNT = 8


def reference_inputs(spec: InputSpec) -> np.ndarray:
    """float32 (8, 3, height, width), prepared: noise, each smoothed more than the one before.

    In integers and from a generator that NumPy promises never to change: the same everywhere.
    """
    shape = (COUNT, *spec.size, spec.shape[0])
    noise = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    made = []
    for i, image in enumerate(noise.astype(np.int64)):
        for axis in (0, 1):
            image = sum(np.roll(image, k, axis) for k in range(4 * i + 3))
        low, high = image.min(), image.max()
        made.append(((image - low) * 255 // max(high - low, 1)).astype(np.uint8))
    return normalise(np.stack(made), spec)


STEPS = 65535  # between the lowest and the highest answer: fine enough, and two bytes a number


def unpacked(low: float, high: float, answers: str) -> np.ndarray:
    """Return one output's answers, float64 (8, numbers), from the fields of `Packed`."""
    steps = np.frombuffer(base64.b64decode(answers), "<u2").reshape(COUNT, -1)
    return low + steps * ((high - low) / STEPS)


TOLERANCE = 0.01  # largest difference, as a fraction of the standard deviation of the outputs


def differences(stored: Outputs, now: Outputs, others: int) -> str | None:
    """Return how outputs (8, …) differ, where they do: in the answer, or in the numbers.

    Numbers that are a step of `Packed` apart at most are the same ones: that another answer is
    nearest by them, in a tie, says nothing of this machine.

    Args:
        others: how many of the inputs get another answer.
    """
    shares = [np.abs(now[name] - x).max() / (x.std() + 1e-12) for name, x in stored.items()]
    share = np.max(shares)  # not a number where any of them is none
    if not others and share <= TOLERANCE:
        return None
    if all(np.abs(now[name] - x).max() <= np.ptp(x) / STEPS for name, x in stored.items()):
        return None
    best = f"{others} of {COUNT} reference inputs get another answer, " if others else ""
    return f"{best}outputs differ by {100 * share:.3g} % of their standard deviation"


def check(network: Network, runtime: str) -> None:
    """Say on stderr where this machine answers otherwise than the one it was judged on."""
    kept = json.loads(network.session.reference or "{}").get(runtime)
    if kept is None:
        return
    now = np.concatenate([network.answers(x[None]) for x in reference_inputs(network.spec)])
    (packed,) = kept.get("outputs", {"": kept}).values()  # once there was one, without a name
    stored = unpacked(packed["low"], packed["high"], packed["answers"]).reshape(now.shape)
    others = 0
    if network.spec.classes:
        best = stored[np.arange(len(now)), now.argmax(1)]
        others = int((best < stored.max(1)).sum())
    said = differences({"": stored}, {"": now}, others)
    if said is not None:
        print(
            f"This machine answers otherwise than the one that {network.stage.name} was judged on "
            f"({kept['judged_on']}): {said}. Judge it anew here, or make it again: int8 made with "
            "portable: true answers alike on all machines.",
            file=sys.stderr,
        )


@dataclass
class Clock:
    """Seconds by part, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


DECODE = "decode"  # the part before all stages', and between two where a JPEG is decoded again


LARGE_PIXELS = 1_000_000  # at 640 x 427 an eighth of the size would save 0.2 ms, and detail


def is_sideways(file: "Image") -> bool:
    """Return whether EXIF swaps width and height of an opened image, not decoded for that."""
    with suppress(Exception):  # as `turn_upright`
        return file.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # turned by 90°
    return False


def _drafted(file: Image.Image, times: Callable[[Size], float]) -> Size | None:
    """Have an opened file decoded smaller, if it is a large JPEG; return its upright size.

    None where it stays as large as it is.
    """
    if file.format not in ("JPEG", "MPO") or math.prod(file.size) < LARGE_PIXELS:
        return None
    width, height = file.size
    size = (height, width) if is_sideways(file) else (width, height)
    if (smaller := times(size)) < 2:
        return None
    asked = math.ceil(width / smaller), math.ceil(height / smaller)
    return size if file.draft(None, asked) else None


def turn_upright(file: "Image") -> None:
    """Decode an opened image, and apply its EXIF orientation, in place.

    EXIF that no camera should have written leaves the image as it is stored, or turned, where only
    what else it says cannot be written anew.
    """
    from PIL import ImageOps

    file.load()
    with suppress(Exception):  # of many kinds: what readers of EXIF did not expect
        ImageOps.exif_transpose(file, in_place=True)


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


def eight_bits(image: "Image") -> "Image":
    """A grey image of 16 or 32 bits as one of 8 bits, scaled by the range of its numbers.

    The range is that of `full_range`, and one for all images of a dataset (`drop_unreadable`).
    Integers lose their lowest bits, floats are rounded.

    Raises:
        ValueError: values that are negative, or not finite.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    high = float(values.max())
    if not (np.isfinite(values).all() and values.min() >= -0.1 * min(high, 1)):
        raise ValueError(
            f"its pixels are numbers from {values.min():g} to {high:g}: scale them to 0 to 1, or "
            "to integers from 0"
        )
    full = full_range(values)
    if image.mode[0] == "I":
        lost_bits = full.bit_length() - 8
        return Image.fromarray((values.astype(np.int64) >> lost_bits).astype(np.uint8))
    scaled = 255 * (values / np.float32(full)).clip(0, 1)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def upright_rgb(file: "Image") -> "Image":
    """An opened image of any mode as RGB, 8 bits a channel, its EXIF orientation applied.

    One of deeper integers or of floats is scaled by its range, as `eight_bits` says.

    Raises:
        ValueError: numbers that have no range of their own.
    """
    # Copies of a photograph take longer than its decoding: most are upright RGB, and stay as read.
    turn_upright(file)
    if file.mode == "RGB":
        return file
    if file.mode[0] not in "IF":
        return file.convert("RGB")
    return eight_bits(file).convert("RGB")


ENOUGH = 2  # pixels along a side for one of a network's input; what training has (`load_image`)


def times_enough(view: View, spec: InputSpec) -> float:
    """Return how many times as many pixels a view has along a side as are enough."""
    across, down = math.hypot(view.a, view.d), math.hypot(view.b, view.e)
    return min(across / spec.width, down / spec.height) / ENOUGH


@dataclass(frozen=True)
class Photograph:
    """What was decoded of an image file, upright, in RGB."""

    image: Image.Image
    size: Size  # of the upright photograph in pixels: the image's own, or more

    def on_image(self, view: View) -> View:
        """Bring a view of the photograph to the pixels that were decoded."""
        (width, height), (across, down) = self.image.size, self.size
        return view.scaled(width / across, height / down)

    def has_enough_for(self, view: View, spec: InputSpec) -> bool:
        """Whether a network sees all that it could see of the photograph."""
        return self.image.size == self.size or times_enough(self.on_image(view), spec) >= 1


def decoded(photograph: bytes, times: Callable[[Size], float] = lambda size: 1) -> Photograph:
    """Decode the bytes of an image file.

    Args:
        times: of an upright photograph's size, how many times as small it may be decoded; large
            JPEGs are, by a power of two.

    Raises:
        UserError: not an image, truncated, or empty.
    """
    try:
        with warnings.catch_warnings():
            # Photographs of over 89 megapixels are what somebody photographed, not an attack;
            # twice that Pillow refuses by itself.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(photograph)) as file:
                size = _drafted(file, times)
                image = upright_rgb(file)
                return Photograph(image, size or image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The photograph cannot be read: {error}") from error


def _sees_all(stage: CascadeStage) -> bool:
    return stage.crop is None and stage.warp is None


def kept(sizes: np.ndarray, spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return what of each image fills the input: upper left corner and extent, pixels (n, 1, 2).

    A letterbox shows more than the image: the corner is then outside.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    extent, aspect = sizes, spec.width / spec.height
    if spec.fit == "crop":
        extent = np.minimum(sizes, sizes[:, ::-1] * [aspect, 1 / aspect])
    elif spec.fit == "letterbox":
        extent = np.maximum(sizes, sizes[:, ::-1] * [aspect, 1 / aspect])
    return ((sizes - extent) / 2)[:, None], extent[:, None]


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


def _usual_times(size: Size, stage: CascadeStage, spec: InputSpec) -> float:
    """Return the same for one network; 1 where nobody knows."""
    if _sees_all(stage):
        return times_enough(whole(size, spec), spec)
    return max(size) / stage.least_photograph_px if stage.least_photograph_px else 1.0


def _times_smaller(size: Size, networks: Sequence[Network]) -> float:
    """Return how many times as small a photograph still has enough pixels for all, most likely."""
    return min(_usual_times(size, network.stage, network.spec) for network in networks)


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


def _metric(point: Point, aspect: float) -> complex:
    """Bring fractions of the view's sides to units of its height."""
    return complex(point[0] * aspect, point[1])


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


def view_of(look: Look, spec: InputSpec, size: Size, points: Mapping[str, Point]) -> View:
    """Return where a network looks in an upright photograph of that size."""
    aspect = spec.width / spec.height
    if look.crop is not None:
        known = [points[name] for name in look.crop.around]
        return around(known, look.crop.margin, aspect)
    if look.warp is not None:
        wanted = [(x, y) for x, y in look.warp.values()]
        return brought_to([points[name] for name in look.warp], wanted, aspect)
    return whole(size, spec)


GREY = (114, 114, 114)  # what a letterbox fills up with


def letterboxed(image: "Image", size: tuple[int, int]) -> "Image":
    """An image scaled into the middle of `size` (width, height), with GREY beside it."""
    from PIL import Image, ImageOps

    border = GREY[0] if image.mode == "L" else GREY
    return ImageOps.pad(image, size, Image.Resampling.BILINEAR, border)


def _upright_box(view: View, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Return left, top, right, bottom of an upright view within the photograph; None of others."""
    box = (view.c, view.f, view.c + view.a, view.f + view.e)
    within = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
    upright = view.b == view.d == 0 and view.a > 0 and view.e > 0
    return box if upright and within else None


# How many times as large as asked for whole factors leave what is scaled, at least. They take up to
# two thirds of the time; what is seen then differs by less than 0.8 of 255 on average (at 2.0 by up
# to 1.8, and by 12 at the worst pixel).
GAP = 2.5


def _is_inside(view: View, size: tuple[int, int]) -> bool:
    """Whether a view shows nothing but the photograph."""
    corners = [view.to_photograph((x, y)) for x in (0.0, 1.0) for y in (0.0, 1.0)]
    return all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in corners)


def _seen(view: View, size: tuple[int, int], margin: int) -> tuple[int, int, int, int] | None:
    """Return the part of the photograph that a view shows, with a margin; None if nothing."""
    corners = [view.to_photograph((x, y)) for x in (0.0, 1.0) for y in (0.0, 1.0)]
    left = max(0, math.floor(min(x for x, _ in corners)) - margin)
    top = max(0, math.floor(min(y for _, y in corners)) - margin)
    right = min(size[0], math.ceil(max(x for x, _ in corners)) + margin)
    bottom = min(size[1], math.ceil(max(y for _, y in corners)) + margin)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _mean_colour(photograph: Image.Image) -> tuple[int, ...]:
    """Return the mean of 16 x 16 pixels that are spread evenly."""
    some = np.asarray(photograph.resize((16, 16), Image.Resampling.NEAREST))
    return tuple(map(round, some.reshape(256, -1).mean(0).tolist()))


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


def _shown(seen: Photograph, turns: Sequence[View], network: Network) -> np.ndarray:
    """Return what a network is shown: uint8 (turns, height, width, channels)."""
    stage, spec = network.stage, network.spec
    image = seen.image.convert("L") if spec.channels == "grey" else seen.image
    boxed = spec.fit == "letterbox" and _sees_all(stage)
    views = map(seen.on_image, turns)
    return np.stack([cut(image, x, spec.width, spec.height, letterbox=boxed) for x in views])


NETWORK = ": network"  # ends the name of the part that a stage's network takes


def _points(outputs: np.ndarray, turns: Sequence[View], spec: InputSpec) -> dict[str, Point]:
    """Bring each turn's answer into the photograph; the median of them counts."""
    answers = np.array(
        [
            [view.to_photograph((float(x), float(y))) for x, y in given.reshape(-1, 2)]
            for view, given in zip(turns, outputs, strict=True)
        ]
    )
    middle = np.median(answers, axis=0)
    return {name: (float(x), float(y)) for name, (x, y) in zip(spec.points, middle, strict=True)}


def probabilities_of(logits: np.ndarray, scale: Scale) -> np.ndarray:
    """Return logits on a scale: the softmax over the last axis, or the sigmoid."""
    if scale == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True))


@dataclass(frozen=True)
class Found:
    """What a cascade says of one photograph."""

    size: tuple[int, int]  # width, height of the upright photograph in pixels
    points: dict[str, Point]  # pixels of the upright photograph
    probabilities: np.ndarray  # float64 (classes,); empty where no stage names anything
    views: dict[str, View]  # where each stage looked
    seconds: dict[str, float]  # by part: decode, and each stage's look and network

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())


def find(
    photograph: bytes, networks: Sequence[Network], known: Mapping[str, Point] | None = None
) -> Found:
    """Bring the bytes of an image file to points and probabilities.

    Args:
        known: points that need not be found, in pixels of the upright photograph.

    Raises:
        UserError: not an image.
    """
    clock = Clock()
    with clock.part(DECODE):
        seen = decoded(photograph, lambda size: _times_smaller(size, networks))
    points: dict[str, Point] = dict(known or {})
    views: dict[str, View] = {}
    probabilities = np.empty(0)
    for network in networks:
        stage, spec = network.stage, network.spec
        with clock.part(f"{stage.name}: look"):
            views[stage.name] = view = view_of(stage, spec, seen.size, points)
        with clock.part(DECODE):
            seen = seen if seen.has_enough_for(view, spec) else decoded(photograph)
        with clock.part(f"{stage.name}: look"):
            turns = [
                view.turned(2 * math.pi * i / stage.turns, spec.width / spec.height)
                for i in range(stage.turns)
            ]
            shown = _shown(seen, turns, network)
        with clock.part(f"{stage.name}{NETWORK}"):
            outputs = network.outputs(shown)
        if spec.points:
            points |= _points(outputs, turns, spec)
        else:
            logits = outputs.mean(0).astype(np.float64)
            probabilities = probabilities_of(logits, "softmax")
    return Found(seen.size, points, probabilities, views, clock.seconds)


SHOWN = 5  # of the names


def ranked_names(found: Found, classes: Sequence[str], top: int) -> list[tuple[float, str]]:
    """Return the most probable classes, each behind its probability; equals in their order."""
    ranked = zip(found.probabilities.tolist(), classes, strict=True)
    return sorted(ranked, key=lambda x: -x[0])[:top]


def name_of(found: Found, classes: Sequence[str], min_probability: float) -> str | None:
    """Return the most probable class; None where it is less probable, or nothing is named."""
    if not len(found.probabilities):
        return None
    best = int(found.probabilities.argmax())
    return classes[best] if found.probabilities[best] >= min_probability else None


NOT_SURE = "not sure enough to give a name"


NONE = "\u2013"  # en dash: a hyphen could be read as a minus


def percent(fraction: float | None) -> str:
    """A share in per cent: 0.819 -> 81.9."""
    return NONE if fraction is None else f"{100 * fraction:.1f}"


def significant(x: float | None, digits: int = 3) -> str:
    """`digits` significant digits, never in exponent notation: 204, 44.6, 0.0123; inf, nan."""
    if x is None:
        return NONE
    if not math.isfinite(x):
        return str(x)
    exponent = int(f"{abs(x):.{digits - 1}e}".split("e")[1]) if x else 0
    return f"{x:.{max(0, digits - 1 - exponent)}f}"


def ms(seconds: float | None) -> str:
    """Milliseconds."""
    return significant(None if seconds is None else 1e3 * seconds)


def told(
    found: Found, classes: Sequence[str], min_probability: float, top: int = SHOWN
) -> list[str]:
    """Return in lines for people what was found: the name, the most probable ones, the points."""
    ranked = ranked_names(found, classes, top)
    lines = [name_of(found, classes, min_probability) or NOT_SURE] if ranked else []
    lines += [f"{percent(p):>7}  {name}" for p, name in ranked]
    lines += [f"{name}: {x:.1f}, {y:.1f}" for name, (x, y) in found.points.items()]
    return [*lines, f"{ms(found.total_s)} ms"]


def main(folder: Path, open_model: OpenModel, runtime: str) -> int:
    """Say what is on the photographs that are named behind the script; return the exit code.

    Args:
        folder: with pipeline.json and the models.
        runtime: that they were judged in.
    """
    try:
        networks, min_probability = load(folder, open_model)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for network in networks:
        check(network, runtime)
    failed = False
    for path in sys.argv[1:]:
        print(path)
        try:
            found = find(Path(path).read_bytes(), networks)
        except (UserError, OSError) as error:
            print(f"  {error}", file=sys.stderr)
            failed = True
            continue
        for line in told(found, networks[-1].spec.classes, min_probability):
            print(f"  {line}")
    return 2 if failed else 0


def cpus() -> list[int]:
    """Numbers of the CPUs that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@cache
def _libm() -> tuple[Callable[[object], int], Callable[[object], int]] | None:
    """fegetenv and fesetenv; None where they are not to be had."""
    try:
        libm = ctypes.CDLL(None)
        return libm.fegetenv, libm.fesetenv
    except (AttributeError, OSError, TypeError):  # Windows: its C library keeps it elsewhere
        return None


_Environment = ctypes.c_char * 256  # fenv_t has 8 to 32 bytes


# Where in Linux's fenv_t the control word lies, and its bits: flush results, take inputs as zero.
_CONTROL = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}


_PLACE = _CONTROL.get(platform.machine()) if sys.platform == "linux" else None


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Sets it for this thread, where it is known how; restores what was before everywhere.

    Around every call of a runtime: every microsecond of it is measured, too.
    """
    if (functions := _libm()) is None:
        yield
        return
    get, set_ = functions
    before = _Environment()
    get(before)
    if _PLACE is not None:
        offset, bits = _PLACE
        changed = _Environment.from_buffer_copy(before)
        ctypes.c_uint32.from_buffer(changed, offset).value |= bits
        set_(changed)
    try:
        yield
    finally:
        set_(before)


class Entry(NamedTuple):
    """An input of a file."""

    name: str
    dtype: str  # as NumPy calls it, or the runtime where NumPy has none
    shape: tuple[int | None, ...]  # None: free

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


# What onnxruntime calls types otherwise than NumPy.
DTYPES = {"float": "float32", "double": "float64"}


def _entry(given: "onnxruntime.NodeArg") -> Entry:
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(n if isinstance(n, int) else None for n in given.shape)
    return Entry(given.name, DTYPES.get(kind, kind), shape)


METADATA_KEY = "compress.input"


# Where a file keeps what it answered when it was judged, see compress/export/reference_answers.py.
REFERENCE_KEY = "compress.reference"


@contextmanager
def on_first_cpu(threads: int) -> Iterator[None]:
    """Keeps the calling thread on the first of the CPUs that it may use, for a while.

    The others are for the threads that work for it; not where there are fewer CPUs than threads.
    """
    own = cpus()
    if not 1 < threads <= len(own):
        yield
        return
    os.sched_setaffinity(0, own[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@dataclass(frozen=True)
class Kernel:
    """One kernel of the runtime, in the order of execution."""

    operation: str  # as the runtime calls it
    precision: str  # of what it reads, or of what it rounds that to itself
    output_shape: tuple[int, ...]
    activation_bytes: int  # read and written, weights not among them
    names: tuple[str, ...]  # of nodes or tensors of the file that it computes, as far as it says
    seconds: float  # a call
    implementation: str = ""  # how it computes that, e.g. jit_avx512_i8, where the runtime says


ROUNDS = "DynamicQuantizeMatMul"  # reads floats, but multiplies integers


# What compress calls the precisions that layers compute in, by how runtimes call their types.
PRECISIONS = {
    "float": "float32", "uint8": "int8", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "u8": "int8", "i8": "int8", "u1": "binary",
}  # fmt: skip


def _kernel(event: Event) -> Kernel:
    arguments = event["args"]
    inputs = [name for entry in arguments["input_type_shape"] for name in entry]
    outputs = [shape for entry in arguments["output_type_shape"] for shape in entry.values()]
    read = inputs[0] if inputs else "float"
    name = str(event["name"]).removesuffix("_kernel_time")
    operation = arguments["op_name"]
    return Kernel(
        operation=operation,
        precision="int8" if operation == ROUNDS else PRECISIONS.get(read, read),
        output_shape=tuple(outputs[0]) if outputs else (),
        activation_bytes=int(arguments["activation_size"]) + int(arguments["output_size"]),
        names=(name,),
        seconds=1e-6 * event["dur"],
        # Channels in blocks, as wide as the CPU's registers: its fast float convolutions.
        implementation="nchwc" if "_nchwc" in name else "",
    )


def kernels_by_call(profile: Sequence[Event]) -> list[list[Kernel]]:
    """Return what onnxruntime's profile says of each call, in the order of execution.

    A kernel that runs a graph of its own (If, Loop) stands for those inside.
    """
    starts = sorted(event["ts"] for event in profile if event["name"] == "model_run")
    events = [
        event
        for event in profile
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
    ]
    # The outer one first, where two start in the same microsecond.
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    calls: list[list[Kernel]] = [[] for _ in starts]
    call = ends = 0
    for event in events:
        while call + 1 < len(starts) and event["ts"] >= starts[call + 1]:
            call += 1
        if event["ts"] + event["dur"] <= ends and event["dur"]:
            continue
        calls[call].append(_kernel(event))
        ends = event["ts"] + event["dur"]
    return calls


class OnnxFile:
    """An ONNX file with any inputs."""

    def __init__(
        self, path: Path, threads: int, profile: Path | None = None, alone: bool = True
    ) -> None:
        """Loads the file.

        Args:
            alone: off where several sessions run one after the other (compress/pipeline): idle
                threads then sleep and stay on CPUs of their own. Else they spin after a run, as
                onnxruntime's do, and take the cores from the next network: three in a row took
                15 ms where each alone adds up to 6.7, and 7.5 so. A session alone is best left
                to spin.
            profile: how the file begins that the runtime's own profile is written to; None: no
                profile is taken.

        Raises:
            UserError: missing, or nothing that onnxruntime can load.
        """
        import onnxruntime  # here: who only asks for its name need not wait for it

        if not path.is_file():
            raise UserError(f"No model at {path}.")
        self.threads, self.alone = threads, alone
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        # For its own threads; the calling one, which works too, is told in `run`.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        if not alone:
            options.add_session_config_entry("session.force_spinning_stop", "1")
            if 1 < threads <= len(own := cpus()):
                # Counted from 1. The calling thread, which works too, is to run on the first CPU.
                places = ";".join(str(cpu + 1) for cpu in own[1:threads])
                options.add_session_config_entry("session.intra_op_thread_affinities", places)
        try:
            with denormals_as_zero():
                self.session = onnxruntime.InferenceSession(
                    path, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"{path} cannot be loaded by onnxruntime: {error}") from error
        self.inputs = tuple(map(_entry, self.session.get_inputs()))
        self.outputs = tuple(output.name for output in self.session.get_outputs())
        metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.spec = metadata.get(METADATA_KEY)
        self.reference = metadata.get(REFERENCE_KEY)

    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return all outputs, of the types that they have.

        Raises:
            UserError: arrays of other shapes or types than the file takes.
        """
        fed = {entry.name: x for entry, x in zip(self.inputs, arrays, strict=True)}
        try:
            # Alone, no thread has a CPU of its own: the system places them.
            with denormals_as_zero(), on_first_cpu(1 if self.alone else self.threads):
                return list(self.session.run(None, fed))
        except Exception as error:
            raise UserError(f"onnxruntime cannot run the model: {error}") from error

    def kernels(self) -> list[list[Kernel]]:
        """Return the kernels of each call so far, where a profile is taken; it ends with that."""
        return kernels_by_call(json.loads(Path(self.session.end_profiling()).read_text("utf-8")))


# What images can be fed as.
FLOATS = ("float32", "float16", "float64")


BYTES = "uint8"


def layout_of(shape: Sequence[int | None]) -> Layout:
    """Return where a file has the channels: first, unless only its last number can be theirs."""
    return "nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw"


class ImageInput(NamedTuple):
    """The only input of a file that takes images; None: free."""

    dtype: str
    layout: Layout
    batch: int | None
    channels: int | None
    height: int | None
    width: int | None

    @property
    def kind(self) -> Dtype:
        """Bytes, or floats of any precision."""
        return "uint8" if self.dtype == BYTES else "float32"

    def fed(self, images: np.ndarray) -> np.ndarray:
        """Return prepared images, float32 (n, channels, height, width), as the input takes them."""
        if self.layout == "nhwc":
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        if self.dtype == BYTES:
            images = np.rint(images).clip(0, 255)
        return images.astype(self.dtype, copy=False)


def image_input(path: Path, inputs: Sequence[Entry]) -> ImageInput:
    """Return the only input of a file that takes images.

    Raises:
        UserError: other inputs.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UserError(
            f"{path} takes {', '.join(map(str, inputs)) or 'nothing'}; expected one input (batch, "
            "channels, height, width), or with the channels last."
        )
    (entry,) = inputs
    if entry.dtype not in (*FLOATS, BYTES):
        raise UserError(
            f"{path} takes {entry.dtype}; expected float32, images minus mean, over std, or bytes "
            "(uint8): export it with such an input."
        )
    layout = layout_of(entry.shape)
    if layout == "nhwc":
        batch, height, width, channels = entry.shape
    else:
        batch, channels, height, width = entry.shape
    return ImageInput(entry.dtype, layout, batch, channels, height, width)


def size_of(path: Path, takes: ImageInput, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width of the images that a file takes.

    Args:
        size: both where the file leaves them free.

    Raises:
        UserError: a size that nobody says.
    """
    if takes.height is not None and takes.width is not None:
        return takes.height, takes.width
    if size is None:
        raise UserError(
            f"{path} leaves its input's height and width free: export fixed ones, or give a JSON "
            "file with both to `compress eval` and `predict` (--spec)."
        )
    return takes.height or size[0], takes.width or size[1]


class TakesImages(ABC):
    """Beside a runtime's class for files of any inputs: feeds it images, gives outputs by name."""

    inputs: tuple[Entry, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return all outputs in order: it is the runtime's own class that does."""

    def take_images(self, path: Path, size: tuple[int, int] | None) -> None:
        """Find out what images the file takes, as `image_input` and `size_of`."""
        self.takes = image_input(path, self.inputs)
        self.image_size = size_of(path, self.takes, size)
        self.batch_size, self.channels = self.takes.batch, self.takes.channels

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, float32 (n, …); the file is fed its own type and layout."""
        outputs = self.call([self.takes.fed(images)])
        found = zip(self.outputs, outputs, strict=True)
        return {name: np.asarray(output, dtype=np.float32) for name, output in found}


class OnnxSession(OnnxFile, TakesImages):
    """An ONNX file with one image input."""

    def __init__(
        self,
        path: Path,
        threads: int,
        profile: Path | None = None,
        alone: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Loads the file, as `OnnxFile`.

        Args:
            size: height and width of the images, where the file leaves them free.

        Raises:
            UserError: missing, nothing that onnxruntime can load, or no file that takes images.
        """
        super().__init__(path, threads, profile, alone)
        self.take_images(path, size)
        self.input = self.inputs[0].name


HERE = Path(__file__).parent


def open_model(path):
    """A stage's model, with as many threads as when it was measured."""
    return OnnxSession(path, 2, alone=False)


if __name__ == "__main__":
    sys.exit(main(HERE, open_model, "onnxruntime"))
