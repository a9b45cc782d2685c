"""From a photograph to points and a name: decode, look, find points, look there, name.

Needs no torch. An exported cascade's script is made of this very text (`export/standalone.py`).
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from compress.cascade.photograph import Photograph, Size, decoded, times_enough
from compress.cascade.spec import CascadeStage, Look
from compress.cascade.views import Point, View, around, brought_to, cut, whole
from compress.data.input_spec import InputSpec, normalise
from compress.metrics.probabilities import probabilities_of
from compress.runtimes import Session
from compress.utils.units import ms, percent

DECODE = "decode"  # the part before all stages', and between two where a JPEG is decoded again
NETWORK = ": network"  # ends the name of the part that a stage's network takes
NOT_SURE = "not sure enough to give a name"
SHOWN = 5  # of the names


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


@dataclass
class Clock:
    """Seconds by part, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


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


def name_of(found: Found, classes: Sequence[str], min_probability: float) -> str | None:
    """Return the most probable class; None where it is less probable, or nothing is named."""
    if not len(found.probabilities):
        return None
    best = int(found.probabilities.argmax())
    return classes[best] if found.probabilities[best] >= min_probability else None


def ranked_names(found: Found, classes: Sequence[str], top: int) -> list[tuple[float, str]]:
    """Return the most probable classes, each behind its probability; equals in their order."""
    ranked = zip(found.probabilities.tolist(), classes, strict=True)
    return sorted(ranked, key=lambda x: -x[0])[:top]


def told(
    found: Found, classes: Sequence[str], min_probability: float, top: int = SHOWN
) -> list[str]:
    """Return in lines for people what was found: the name, the most probable ones, the points."""
    ranked = ranked_names(found, classes, top)
    lines = [name_of(found, classes, min_probability) or NOT_SURE] if ranked else []
    lines += [f"{percent(p):>7}  {name}" for p, name in ranked]
    lines += [f"{name}: {x:.1f}, {y:.1f}" for name, (x, y) in found.points.items()]
    return [*lines, f"{ms(found.total_s)} ms"]


def decode(photograph: bytes) -> Image.Image:
    """Return an upright RGB image, of all pixels, from the bytes of a file.

    Raises:
        UserError: not an image, truncated, or empty.
    """
    return decoded(photograph).image


def _times_smaller(size: Size, networks: Sequence[Network]) -> float:
    """Return how many times as small a photograph still has enough pixels for all, most likely."""
    return min(_usual_times(size, network.stage, network.spec) for network in networks)


def _usual_times(size: Size, stage: CascadeStage, spec: InputSpec) -> float:
    """Return the same for one network; 1 where nobody knows."""
    if _sees_all(stage):
        return times_enough(whole(size, spec), spec)
    return max(size) / stage.least_photograph_px if stage.least_photograph_px else 1.0


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


def _shown(seen: Photograph, turns: Sequence[View], network: Network) -> np.ndarray:
    """Return what a network is shown: uint8 (turns, height, width, channels)."""
    stage, spec = network.stage, network.spec
    image = seen.image.convert("L") if spec.channels == "grey" else seen.image
    boxed = spec.fit == "letterbox" and _sees_all(stage)
    views = map(seen.on_image, turns)
    return np.stack([cut(image, x, spec.width, spec.height, letterbox=boxed) for x in views])


def _sees_all(stage: CascadeStage) -> bool:
    return stage.crop is None and stage.warp is None


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
