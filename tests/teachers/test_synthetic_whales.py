"""The synthetic whales: repeatable, rightly annotated, and recognisable by their heads alone."""

import csv
import filecmp
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from teachers import synthetic_whales
from teachers.synthetic_whales import BLOWHEAD_AT, BONNET_AT

SMALL = {"individuals": 5, "pictures": 24, "unlabelled": 4, "seed": 3}
SIDE = 64
FRAME = (480, 320)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    synthetic_whales.heads(folder, size=SIDE, **SMALL)
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    synthetic_whales.frames(folder, width=FRAME[0], height=FRAME[1], **SMALL)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def labels(folder: Path) -> list[tuple[str, str]]:
    return [(row["Image"], row["whaleID"]) for row in rows(folder / "train.csv")]


def grey(picture: Image.Image) -> np.ndarray:
    """The part of a head crop that holds the callosities, mean 0 and length 1; blurred, since a
    head crop is a little misaligned on purpose."""
    blurred = picture.convert("L").filter(ImageFilter.GaussianBlur(picture.width / 40))
    pixels = np.asarray(blurred, float)
    high, wide = pixels.shape
    part = pixels[int(0.3 * high) : int(0.7 * high), int(0.2 * wide) : int(0.85 * wide)].ravel()
    part -= part.mean()
    return part / np.linalg.norm(part)


def test_same_seed_gives_the_same_bytes(heads: Path, frames: Path, tmp_path: Path) -> None:
    synthetic_whales.heads(tmp_path / "heads", size=SIDE, **SMALL)
    few = SMALL | {"pictures": 8, "unlabelled": 0}
    for again in ("frames", "frames again"):
        synthetic_whales.frames(tmp_path / again, width=FRAME[0], height=FRAME[1], **few)
    for first, second in (
        (heads, tmp_path / "heads"), (tmp_path / "frames", tmp_path / "frames again")
    ):  # fmt: skip
        names = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
        assert names == sorted(
            str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())  # fmt: skip
        assert filecmp.cmpfiles(first, second, names, shallow=False)[1:] == ([], [])


def test_another_seed_gives_other_pictures(heads: Path, tmp_path: Path) -> None:
    synthetic_whales.heads(tmp_path, size=SIDE, **(SMALL | {"seed": 4}))
    names = [path.name for path in (heads / "imgs").iterdir()]
    same = filecmp.cmpfiles(heads / "imgs", tmp_path / "imgs", names, shallow=False)[0]
    assert not same
    assert labels(heads) != labels(tmp_path)


def test_heads_and_frames_agree_on_labels(heads: Path, frames: Path) -> None:
    assert labels(heads) == labels(frames)
    for table in ("head_boxes.csv", "train_with_points.csv"):
        named = [(row["Image"], row["whaleID"]) for row in rows(frames / table)]
        assert named == labels(frames)


def test_labels_do_not_depend_on_size_or_unlabelled(heads: Path, tmp_path: Path) -> None:
    synthetic_whales.heads(tmp_path, size=16, **(SMALL | {"unlabelled": 0}))
    assert labels(tmp_path) == labels(heads)


def test_identities_have_a_long_tail(tmp_path: Path) -> None:
    synthetic_whales.heads(tmp_path, individuals=20, pictures=160, unlabelled=0, size=16)
    counts = sorted(Counter(whale for _, whale in labels(tmp_path)).values())
    assert len(counts) == 20 and sum(counts) == 160
    assert counts[:2] == [1, 1]
    assert counts[-1] > 2 * counts[len(counts) // 2]


def test_unlabelled_pictures_are_only_in_imgs(heads: Path) -> None:
    stored = {path.name for path in (heads / "imgs").iterdir()}
    named = {name for name, _ in labels(heads)}
    assert len(named) == SMALL["pictures"] and named < stored
    assert len(stored - named) == SMALL["unlabelled"]


def test_picture_sizes(heads: Path, frames: Path) -> None:
    assert {Image.open(p).size for p in (heads / "imgs").iterdir()} == {(SIDE, SIDE)}
    assert {Image.open(p).size for p in (frames / "imgs").iterdir()} == {FRAME}


def test_boxes_hold_the_points_and_lie_in_the_frame(frames: Path) -> None:
    boxes, points = rows(frames / "head_boxes.csv"), rows(frames / "train_with_points.csv")
    for box, point in zip(boxes, points, strict=True):
        left, top = float(box["x"]), float(box["y"])
        right, bottom = left + float(box["width"]), top + float(box["height"])
        assert left >= -0.02 and right <= FRAME[0] + 0.02
        assert top >= -0.02 and bottom <= FRAME[1] + 0.02
        for name in ("bonnet_tip", "blowhead"):
            assert left < float(point[f"{name}_x"]) < right
            assert top < float(point[f"{name}_y"]) < bottom


def aligned(frame: Image.Image, point: dict[str, str], mirrored: bool = False) -> Image.Image:
    """The frame's head in the pose of the head crops, worked out without the module's help."""
    bonnet = np.array([float(point["bonnet_tip_x"]), float(point["bonnet_tip_y"])])
    blowhead = np.array([float(point["blowhead_x"]), float(point["blowhead_y"])])
    ahead = (bonnet - blowhead) / ((BONNET_AT - BLOWHEAD_AT).real * SIDE)
    across = np.array([-ahead[1], ahead[0]]) * (-1 if mirrored else 1)
    start = blowhead - ahead * BLOWHEAD_AT.real * SIDE - across * BLOWHEAD_AT.imag * SIDE
    data = (ahead[0], across[0], start[0], ahead[1], across[1], start[1])
    return frame.transform((SIDE, SIDE), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def test_frame_cropped_by_its_points_is_the_head_picture(heads: Path, frames: Path) -> None:
    points = rows(frames / "train_with_points.csv")
    crops, mirrors = (
        np.stack([
            grey(aligned(Image.open(frames / "imgs" / point["Image"]), point, mirrored))
            for point in points
        ])
        for mirrored in (False, True)
    )  # fmt: skip
    pictures = np.stack([grey(Image.open(heads / "imgs" / point["Image"])) for point in points])
    likeness = crops @ pictures.T
    found = likeness.argmax(1) == np.arange(len(points))
    assert found.mean() > 0.85
    assert np.diag(likeness).mean() > np.einsum("ij,ij->i", mirrors, pictures).mean() + 0.3


def test_an_individual_is_recognised_by_its_callosities(tmp_path: Path) -> None:
    synthetic_whales.heads(tmp_path, individuals=6, pictures=400, unlabelled=0, size=48, seed=1)
    seen: dict[str, list[np.ndarray]] = {}
    for name, whale in labels(tmp_path):
        seen.setdefault(whale, []).append(grey(Image.open(tmp_path / "imgs" / name)))
    often = [pictures for pictures in seen.values() if len(pictures) > 1]
    assert len(often) == 5
    early, late = (
        np.stack([np.mean(pictures[half::2], 0) for pictures in often]) for half in (0, 1)
    )
    # What all whales share (a head in the sea) would drown what tells them apart.
    likeness = np.corrcoef(early - early.mean(0), late - late.mean(0))[:5, 5:]
    assert (likeness.argmax(1) == np.arange(5)).all()
    assert np.diag(likeness).mean() > 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"individuals": 0}, {"pictures": 4}, {"unlabelled": -1}, {"seed": -1}, {"size": 8}],
)
def test_heads_refuse_impossible_settings(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        synthetic_whales.heads(tmp_path, **(SMALL | wrong))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"individuals": 25}, {"width": 40}, {"height": 100}])
def test_frames_refuse_impossible_settings(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        synthetic_whales.frames(tmp_path, **(SMALL | wrong))
    assert not any(tmp_path.iterdir())
