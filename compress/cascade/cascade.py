"""Runs a cascade on a photograph: decode, look, find points, look there, name. Needs no torch."""

import io
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from compress.cascade.spec import CascadeSpec, CascadeStage, Look
from compress.cascade.views import Point, View, around, brought_to, cut, whole
from compress.data.input_spec import InputSpec, normalise, upright_rgb
from compress.export.artifact import spec_of
from compress.metrics.probabilities import probabilities_of
from compress.models.sessions import open_session
from compress.runtimes import runtime_for
from compress.utils.errors import UserError

NETWORK = ": network"  # ends the name of the part that a stage's network takes


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


class Network:
    """A stage's loaded model."""

    def __init__(
        self, stage: CascadeStage, path: Path, threads: int, allowed: tuple[str, ...] = ()
    ) -> None:
        self.stage = stage
        runtime = stage.runtime or runtime_for(path)
        self.session = open_session(path, runtime, threads, allowed, alone=False)
        if self.session.spec is None:
            self.spec = spec_of(path)  # says what is missing
        else:
            self.spec = InputSpec.model_validate_json(self.session.spec)

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Return the first output for uint8 images (n, height, width, channels)."""
        prepared = normalise(images, self.spec)
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


class Cascade:
    """The loaded networks of a pipeline."""

    def __init__(self, networks: Sequence[Network], min_probability: float = 0.0) -> None:
        """
        Raises:
            UserError: a stage that needs points which none before it finds, or a stage that names
                things before the last.
        """
        self.networks = list(networks)
        self.min_probability = min_probability
        known: set[str] = set()
        for number, network in enumerate(self.networks):
            stage, spec = network.stage, network.spec
            if missing := [name for name in stage.needs if name not in known]:
                raise UserError(
                    f"{stage.name} looks at {', '.join(missing)}, which no stage before it finds "
                    f"({', '.join(sorted(known)) or 'none'} are known)."
                )
            if not spec.points and number < len(self.networks) - 1:
                raise UserError(f"{stage.name} names things and finds no points: put it last.")
            known |= set(spec.points)

    @classmethod
    def load(cls, folder: Path, threads: int, allowed: tuple[str, ...] = ()) -> "Cascade":
        """Loads a pipeline folder.

        Raises:
            UserError: anything wrong with `pipeline.json` or with a model.
        """
        spec = CascadeSpec.load(folder)
        networks = [Network(x, folder / x.model, threads, allowed) for x in spec.stages]
        return cls(networks, spec.min_probability)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that the last stage gives; empty where it finds points."""
        return self.networks[-1].spec.classes

    @property
    def warped(self) -> tuple[str, ...]:
        """The two points by which a view is turned; none where no stage warps."""
        return next((tuple(n.stage.warp) for n in self.networks if n.stage.warp), ())

    def find(self, photograph: bytes) -> Found:
        """From the bytes of an image file to points and probabilities.

        Raises:
            UserError: not an image.
        """
        clock = Clock()
        with clock.part("decode"):
            image = decode(photograph)
        points: dict[str, Point] = {}
        views: dict[str, View] = {}
        probabilities = np.empty(0)
        for network in self.networks:
            stage, spec = network.stage, network.spec
            with clock.part(f"{stage.name}: look"):
                views[stage.name] = view = _view(stage, spec, image.size, points)
                turns = [
                    view.turned(2 * math.pi * i / stage.turns, spec.width / spec.height)
                    for i in range(stage.turns)
                ]
                seen = image.convert("L") if spec.channels == "grey" else image
                shown = np.stack([cut(seen, turn, spec.width, spec.height) for turn in turns])
            with clock.part(f"{stage.name}{NETWORK}"):
                outputs = network.outputs(shown)
            if spec.points:
                points |= _points(outputs, turns, spec)
            else:
                logits = outputs.mean(0).astype(np.float64)
                probabilities = probabilities_of(logits, "softmax")
        return Found(image.size, points, probabilities, views, clock.seconds)

    def name(self, found: Found) -> str | None:
        """The most probable class; None where it is less probable than the pipeline asks for."""
        if not len(found.probabilities):
            return None
        best = int(found.probabilities.argmax())
        sure = found.probabilities[best] >= self.min_probability
        return self.classes[best] if sure else None


def decode(photograph: bytes) -> Image.Image:
    """An upright RGB image from the bytes of a file.

    Raises:
        UserError: not an image, truncated, or empty.
    """
    try:
        with warnings.catch_warnings():
            # Photographs of over 89 megapixels are what somebody photographed, not an attack;
            # twice that Pillow refuses by itself.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(photograph)) as file:
                return upright_rgb(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The photograph cannot be read: {error}") from error


def _view(look: Look, spec: InputSpec, size: tuple[int, int], points: dict[str, Point]) -> View:
    aspect = spec.width / spec.height
    if look.crop is not None:
        known = [points[name] for name in look.crop.around]
        return around(known, look.crop.margin, aspect)
    if look.warp is not None:
        wanted = [(x, y) for x, y in look.warp.values()]
        return brought_to([points[name] for name in look.warp], wanted, aspect)
    return whole(size, spec)


def _points(outputs: np.ndarray, turns: Sequence[View], spec: InputSpec) -> dict[str, Point]:
    """Each turn's answer in the photograph; the median of them counts."""
    answers = np.array(
        [
            [view.to_photograph((float(x), float(y))) for x, y in given.reshape(-1, 2)]
            for view, given in zip(turns, outputs, strict=True)
        ]
    )
    middle = np.median(answers, axis=0)
    return {name: (float(x), float(y)) for name, (x, y) in zip(spec.points, middle, strict=True)}
