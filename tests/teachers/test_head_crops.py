"""Crops round heads: the points move with them."""

from pathlib import Path

import numpy as np
from PIL import Image

from compress.data.layouts import read_folder
from compress.data.targets import PointColumns, drop_misplaced
from teachers import synthetic_whales
from teachers.head_crops import crop_heads, synthetic


def test_points_lie_on_the_same_pixels_as_in_the_frame(tmp_path: Path) -> None:
    source = tmp_path / "frames"
    (source / "imgs").mkdir(parents=True)
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[97:104, 147:154, 0] = frame[117:124, 177:184, 1] = 255  # centres (150.5, …), (180.5, …)
    Image.fromarray(frame).save(source / "imgs" / "a.png")
    columns = "bonnet_tip_x,bonnet_tip_y,blowhead_x,blowhead_y"
    (source / "train_with_points.csv").write_text(
        f"Image,whaleID,{columns}\na.png,w,150.5,100.5,180.5,120.5\n"
    )
    (source / "head_boxes.csv").write_text("Image,whaleID,x,y,width,height\na.png,w,140,90,50,40\n")
    for seed in range(8):
        folder = tmp_path / str(seed)
        crop_heads(source, folder, 96, margin=0.3, shift=0.1, seed=seed)
        line = (folder / "train_with_points.csv").read_text().splitlines()[1].split(",")
        shown = np.asarray(Image.open(folder / "imgs" / "a.png")).astype(float)
        rows, across = np.indices(shown.shape[:2]) + 0.5
        for channel, (x, y) in enumerate((line[2:4], line[4:6])):
            weights = shown[..., channel] * (shown[..., channel] > 100)
            centre = [(weights * axis).sum() / weights.sum() for axis in (across, rows)]
            np.testing.assert_allclose([float(x), float(y)], centre, atol=0.6)


def test_synthetic_crops_hold_the_head(tmp_path: Path) -> None:
    synthetic(tmp_path, size=48, individuals=2, pictures=12, width=160, height=128)
    names = ("bonnet_tip", "blowhead")
    data = drop_misplaced(read_folder(tmp_path, points=PointColumns.of(names)), print)
    assert len(data.pictures) == 12 and (data.sizes == 48).all()
    lengths = np.linalg.norm(data.coordinates[:, 0] - data.coordinates[:, 1], axis=1) / 48
    assert (lengths > 0.25).all() and (lengths < 0.75).all()
    longest = max(synthetic_whales.HEAD_LENGTH) * 160
    assert (tmp_path / "train.csv").read_text().count("\n") == 13 and longest < 48
