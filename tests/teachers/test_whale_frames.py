"""Data cut out of frames: the points land where the cut says, and splits are kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data.layouts import read_folder
from teachers import synthetic_whales, whale_frames

SETTINGS = {"individuals": 5, "pictures": 24, "width": 320, "height": 214, "seed": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames")
    whale_frames.frames(root / "frames", **SETTINGS)
    for name, cut in (("crops", whale_frames.head_crops), ("heads", whale_frames.aligned_heads)):
        cut(root / name, source=root / "frames", size=64)
    return root


def by_name(folder: Path):
    return {Path(p.path).name: p for p in read_folder(folder).images}


def test_all_data_agree_on_names_labels_and_split(folders):
    frames = by_name(folders / "frames")
    assert {p.split for p in frames.values()} == {"train", "validation"}
    for cut in ("crops", "heads"):
        images = by_name(folders / cut)
        assert images.keys() == frames.keys()
        for name, image in images.items():
            assert (image.label, image.split) == (frames[name].label, frames[name].split)
    whales = {p.label for p in frames.values() if p.split == "validation"}
    assert whales <= {p.label for p in frames.values() if p.split == "train"}


def test_points_of_a_crop_keep_their_direction_and_lie_in_it(folders):
    frames, crops = by_name(folders / "frames"), by_name(folders / "crops")
    for name, crop in crops.items():
        there, here = (_ends(p.annotations) for p in (frames[name], crop))
        assert np.angle(there[0] - there[1]) == pytest.approx(np.angle(here[0] - here[1]), abs=0.02)
        assert all(0 <= x <= 64 for end in here for x in (end.real, end.imag))


def test_the_box_of_a_crop_is_in_its_middle_with_the_margin_round_it(folders):
    frames, crops = by_name(folders / "frames"), by_name(folders / "crops")
    for name, crop in crops.items():
        there, here = frames[name].annotations, crop.annotations
        assert here["x"] + here["width"] / 2 == pytest.approx(32, abs=0.02)
        assert here["y"] + here["height"] / 2 == pytest.approx(32, abs=0.02)
        longer = max(there["width"], there["height"])
        for side in ("width", "height"):  # a quarter of the longer side is left on each side
            assert here[side] == pytest.approx(64 * there[side] / (1.5 * longer), abs=0.02)


def test_the_box_of_an_aligned_head_is_what_a_frame_in_that_pose_would_have(folders):
    """Blowhead and bonnet tip where the crop has them: the frames' own rule gives the box."""
    boxes = [tuple(p.annotations.values()) for p in by_name(folders / "heads").values()]
    bonnet, blowhead = synthetic_whales.BONNET_AT, synthetic_whales.BLOWHEAD_AT
    expected = synthetic_whales._head_box((64 * bonnet, 64 * blowhead))
    assert boxes == [pytest.approx(expected, abs=0.01)] * 24
    assert whale_frames.aligned_box() == pytest.approx([x / 64 for x in expected])


def _ends(a):
    return (
        complex(a["bonnet_tip_x"], a["bonnet_tip_y"]),
        complex(a["blowhead_x"], a["blowhead_y"]),
    )


def test_an_aligned_head_shows_what_a_head_crop_of_the_same_scene_shows(tmp_path):
    """Image i of `heads` and `frames` is one scene: the cut must look like the rendered head."""
    synthetic_whales.frames(tmp_path / "frames", individuals=3, pictures=6, width=1600, height=1068)
    synthetic_whales.heads(tmp_path / "heads", individuals=3, pictures=6, unlabelled=0, size=96)
    whale_frames.aligned_heads(tmp_path / "cut", source=tmp_path / "frames", size=96)

    def looks_like(one: Path, other: Path) -> float:
        a, b = (np.asarray(Image.open(path).convert("L"), float).ravel() for path in (one, other))
        return float(np.corrcoef(a, b)[0, 1])

    names = sorted(p.name for p in (tmp_path / "cut" / "imgs").iterdir())
    assert len(names) == 6
    same = [looks_like(tmp_path / "cut/imgs" / n, tmp_path / "heads/imgs" / n) for n in names]
    mixed = [
        looks_like(tmp_path / "cut/imgs" / n, tmp_path / "heads/imgs" / m)
        for n, m in zip(names, names[1:] + names[:1], strict=True)
    ]
    assert np.median(same) > 0.6 > np.median(mixed)


def test_the_synthetic_builders_do_both_at_once(folders, tmp_path):
    whale_frames.synthetic_head_crops(tmp_path / "crops", size=64, **SETTINGS)
    whale_frames.synthetic_aligned_heads(tmp_path / "heads", size=64, **SETTINGS)
    for name in ("crops", "heads"):
        there = sorted((folders / name).rglob("*.*"))
        here = sorted((tmp_path / name).rglob("*.*"))
        assert [p.read_bytes() for p in there] == [p.read_bytes() for p in here]
