"""Large JPEGs: no more pixels are decoded than networks are shown, and never fewer."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from compress.cascade import answer, stages
from compress.cascade.cascade import Cascade
from compress.cascade.photograph import decoded
from compress.cascade.spec import CascadeSpec, Crop, Look
from compress.cascade.usual_size import least_photograph_px
from compress.data.dataset import Dataset, Sample
from compress.data.input_spec import InputSpec
from compress.export.artifact import Artifact, sha256_of, size_of, spec_of
from compress.workflow.cache import Stage
from tests.cascade.test_cascade import CANONICAL, photograph
from tests.cascade.test_cascade import folder as folder

LARGE = (2403, 1797)  # no multiple of 8
ARM = 240
SPEC = InputSpec(height=64, width=64, mean=(0, 0, 0), std=(1, 1, 1), fit="stretch")
# To see what is stored so upright, and back.
TURNS = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
Told = Callable[[int | None], Cascade]


@pytest.fixture
def told(folder: Path) -> Told:
    """Load the cascade whose crop and warp have enough pixels in a photograph of such a size."""
    spec = CascadeSpec.load(folder)

    def load(least_px: int | None) -> Cascade:
        least = [None, least_px, least_px]
        stages = [
            stage.model_copy(update={"least_photograph_px": px})
            for stage, px in zip(spec.stages, least, strict=True)
        ]
        spec.model_copy(update={"stages": tuple(stages)}).save(folder)
        return Cascade.load(folder, threads=1)

    return load


@pytest.fixture
def shown_from(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of the images that networks' views were cut from."""
    sizes: list[tuple[int, int]] = []
    cut = answer.cut

    def noted(image: Image.Image, *args: object, **more: object) -> np.ndarray:
        sizes.append(image.size)
        return cut(image, *args, **more)

    monkeypatch.setattr(answer, "cut", noted)
    return sizes


def jpeg(
    arm: float = ARM, angle: float = 0.5, size: tuple[int, int] = LARGE, stored: int = 1
) -> bytes:
    """A photograph as JPEG; `stored` is its EXIF orientation."""
    middle, away = np.array([1190.0, 905.0]), arm * np.array([math.cos(angle), math.sin(angle)])
    png = photograph(tuple(middle + away), tuple(middle - away), "red", size)
    exif = Image.Exif()
    exif[0x0112] = stored
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        turn = TURNS[stored]
        (image if turn is None else image.transpose(turn)).save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("stored", TURNS)
def test_a_large_jpeg_is_decoded_smaller_and_answered_alike(
    told: Told, shown_from: list[tuple[int, int]], stored: int
) -> None:
    content = jpeg(stored=stored)
    full = told(None).find(content)
    assert shown_from == [LARGE] * 3
    small = told(500).find(content)
    assert shown_from[3:] == [(601, 450)] * 3  # a quarter of the size, once
    assert small.size == full.size == LARGE
    for name, place in full.points.items():
        assert small.points[name] == pytest.approx(place, abs=4)  # a fifth of an input pixel
    middle, away = np.array([1190.0, 905.0]), ARM * np.array([math.cos(0.5), math.sin(0.5)])
    assert small.points["red"] == pytest.approx(middle + away, abs=12)
    assert small.probabilities == pytest.approx(full.probabilities, abs=0.02)
    assert small.probabilities[1] > 0.6


def test_a_small_head_in_a_large_photograph_keeps_its_detail(
    told: Told, shown_from: list[tuple[int, int]]
) -> None:
    """Smaller than in training: it is decoded again, in full, before that is cut out."""
    content = jpeg(arm=60)
    small, full = told(500).find(content), told(None).find(content)
    assert shown_from == [(601, 450), (601, 450), LARGE, LARGE, LARGE, LARGE]
    assert small.points["red"] == pytest.approx(full.points["red"], abs=2.5)
    assert small.probabilities == pytest.approx(full.probabilities, abs=0.02)
    assert [part for part in small.seconds if part == "decode"] == ["decode"]


def test_where_the_sizes_are_not_known_it_is_decoded_in_full(
    told: Told, shown_from: list[tuple[int, int]]
) -> None:
    told(None).find(jpeg(arm=500))
    assert set(shown_from) == {LARGE}


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_small_photographs_and_other_formats_are_seen_as_ever(
    told: Told, shown_from: list[tuple[int, int]], suffix: str
) -> None:
    size = (640, 427) if suffix == "JPEG" else (1600, 1200)
    content = photograph((400, 260), (240, 180), "blue", size, suffix=suffix)
    before, now = told(None).find(content), told(20).find(content)
    assert set(shown_from) == {size}
    assert now.points == before.points and now.views == before.views
    assert (now.probabilities == before.probabilities).all()


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
def test_a_whole_photograph_has_enough_pixels(fit: str) -> None:
    spec = SPEC.model_copy(update={"fit": fit})
    view = answer.whole(LARGE, spec)
    seen = decoded(jpeg(), lambda size: answer.times_enough(view, spec))
    assert seen.image.size == (301, 225) and seen.size == LARGE
    assert seen.has_enough_for(view, spec)
    close = answer.around([(100.0, 100.0), (500.0, 500.0)], 0.0, 1.0)
    assert not seen.has_enough_for(close, spec)
    assert decoded(jpeg()).has_enough_for(close, spec)


def test_annotated_training_images_say_how_large_photographs_must_be(tmp_path: Path) -> None:
    """One with the head over a half of it, 19 over a quarter; a tight one, and one held out."""
    Image.new("RGB", (640, 400)).save(tmp_path / "a.png")

    def sample(width: float, split: str = "train") -> Sample:
        box = {"x": 100.0, "y": 90.0, "width": width, "height": 10.0}
        return Sample("a.png", "a", split, box)  # type: ignore[arg-type]

    samples = [sample(320), *[sample(160)] * 19, sample(16), sample(1, "validation")]
    data = Dataset(tmp_path, tuple([*samples, Sample("a.png", "a", "train", {})]))
    corners = ["top_left", "bottom_right"]
    look = Look(crop=Crop(around=corners, margin=0.5))
    # The crop is 320 pixels wide: 2 for each of 64 are there at 2/5 of the size.
    assert least_photograph_px(look, SPEC, data) == 256
    assert least_photograph_px(Look(), SPEC, data) is None
    assert least_photograph_px(Look(warp=CANONICAL), SPEC, data) is None


def test_a_runs_cascade_knows_it_and_is_judged_so(
    folder: Path, tmp_path: Path, shown_from: list[tuple[int, int]]
) -> None:
    """The annotated image of the training split is small; that of the validation split is not."""
    content = photograph((440, 330), (360, 270), "red", (801, 599))
    (tmp_path / "small.png").write_bytes(content)
    (tmp_path / "large.jpg").write_bytes(jpeg())
    known = {"red_x": 440.0, "red_y": 330.0, "blue_x": 360.0, "blue_y": 270.0}
    known |= {"x": 240.0, "y": 180.0, "width": 320.0, "height": 240.0}
    small = Sample("small.png", "red side", "train", known)
    data = Dataset(tmp_path, (small, Sample("large.jpg", "red side", "validation", {})))
    spec = CascadeSpec.load(folder)
    inputs, parts = {"data": tmp_path}, []
    for stage in spec.stages:
        path, there = folder / stage.model, tmp_path / f"artifact {stage.name}"
        there.mkdir()
        facts = {"parameters": 0, "macs": None, "uncounted_operations": [], "spec": spec_of(path)}
        hashed = {"sha256": sha256_of(path), "size_bytes": size_of(path)}
        Artifact(path=path, **facts, **hashed).save(there)
        inputs[stages.role(stage.name)] = there
        parts.append(stage.model_dump(include={"name", "crop", "warp", "turns", "runtime"}))
    done = tmp_path / "done"
    context = SimpleNamespace(
        data=lambda place: data, threads=1, allowed=(), progress=SimpleNamespace(advance=print)
    )
    asked = Stage("cascade", "", stages.VERSION, {"stages": parts, "min_probability": 0.0})
    stages.run(asked, inputs, done, context)  # type: ignore[arg-type]
    made = CascadeSpec.load(done / stages.FOLDER)
    # A crop of 480 pixels of 801, a warp of twice the discs' distance; 128 are enough.
    warped = 2 * 100
    assert [stage.least_photograph_px for stage in made.stages] == [
        *(None, math.ceil(801 * 128 / 480), math.ceil(801 * 128 / warped))
    ]
    assert shown_from == [(601, 450)] * 3
    assert [x.rank for x in stages.load(done)] == [1]
