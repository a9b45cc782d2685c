"""Layouts, splits and unreadable images."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.data.dataset import Dataset, Sample
from compress.data.image_cache import Decoded, drop_unreadable
from compress.data.input_spec import Channels, Fit, InputSpec, load_image, normalise, preprocess
from compress.data.layouts import check_classes, read_folder
from compress.data.split import draw_split
from compress.utils.errors import UserError
from tests.conftest import class_folders


def fitted(height: int, width: int, fit: Fit = "crop", channels: Channels = "rgb") -> InputSpec:
    plain = ((0,), (1,)) if channels == "grey" else ((0,) * 3, (1,) * 3)
    return InputSpec(
        height=height, width=width, mean=plain[0], std=plain[1], fit=fit, channels=channels
    )


def quiet(done: int, total: int) -> None:
    pass


def table(root: Path, rows: list[str], header: str = "Image,whaleID") -> Path:
    (root / "imgs").mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        Image.new("RGB", (20, 10), "navy").save(root / "imgs" / name)
    (root / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def fault(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_classes(read_folder(path))
    return str(caught.value)


def test_class_folders(shapes: Path) -> None:
    data = read_folder(shapes)
    assert data.classes == ("bar", "cross", "dot")
    assert Counter(p.label for p in data.images) == {"bar": 12, "cross": 12, "dot": 12, None: 6}
    assert len(data.indices("unlabelled")) == 6


def test_class_folders_with_a_split(tmp_path: Path, shapes: Path) -> None:
    for split in ("train", "val"):
        for name in ("bar", "dot"):
            shutil.copytree(shapes / name, tmp_path / split / name)
    data = read_folder(tmp_path)
    assert data.classes == ("bar", "dot")
    assert len(data.indices("train")) == len(data.indices("validation")) == 24


def test_competition_layout_with_annotations_and_unlabelled(tmp_path: Path) -> None:
    root = table(tmp_path, ["a.jpg,w1", "b.jpg,w2", "c.jpg,w2"])
    (root / "split.csv").write_text(
        "Image,split\na.jpg,train\nb.jpg,train\nc.jpg,validation\nx.jpg,train\n"
    )
    (root / "boxes.csv").write_text("Image,whaleID,x,y,width\nb.jpg,w2,1.5,2,3\n")
    data = read_folder(root)
    assert [p.path for p in data.images] == [f"imgs/{n}.jpg" for n in "abcd"]
    assert [p.split for p in data.images] == ["train", "train", "validation", "unlabelled"]
    assert data.images[1].annotations == {"x": 1.5, "y": 2.0, "width": 3.0}
    assert data.labels.tolist() == [0, 1, 1, -1]
    assert data.single_image_indices.tolist() == [0]


def test_a_csv_with_path_and_label_columns(tmp_path: Path) -> None:
    root = table(tmp_path, ["imgs/a.jpg,9,cat", "imgs/b.jpg,9,dog"], "path,age,label")
    (root / "train.csv").rename(root / "mine.csv")
    assert read_folder(root / "mine.csv").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a.jpg,x", "nope.jpg,y"], "train.csv:3: 'nope.jpg' does not exist"),
        (["a.jpg,x", "../../etc/passwd,y"], "outside"),
        (["a.jpg,x", "/etc/passwd,y"], "outside"),
        (["a.jpg,x", "b.jpg,x"], "only the class 'x'"),
        (["a.jpg,x", "b.jpg,"], "empty label"),
        (["a.jpg,x", "a.jpg,y"], "twice"),
        (["a.jpg,x,7"], "expected 2 columns"),
        ([], "no labelled images"),
    ],
)
def test_faults_of_a_table(rows: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in fault(table(tmp_path, rows))


def test_all_faults_of_a_table_are_listed(tmp_path: Path) -> None:
    text = fault(table(tmp_path, [f"no{i}.jpg,x" for i in range(14)]))
    assert "14 faults" in text and "… and 4 more" in text


def test_faults_of_folders(tmp_path: Path) -> None:
    assert "No data at" in fault(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "no layout that is understood" in fault(tmp_path / "empty")
    root = class_folders(tmp_path / "shapes", each=2)
    (root / "square").mkdir()
    assert "class folders without images: square" in fault(root)


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = table(tmp_path / "d", ["a.jpg,x", "./b.jpg,y"])
    monkeypatch.chdir(tmp_path)
    assert [p.path for p in read_folder(Path("d")).images][:2] == ["imgs/a.jpg", "imgs/b.jpg"]
    (root / "train.csv").write_text("Image,label\na.jpg,x\n./a.jpg,y\n")
    assert "twice" in fault(Path("d"))


def test_half_a_split_is_not_taken_for_classes(tmp_path: Path, shapes: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(shapes / "bar", tmp_path / split / "bar")
    assert "not both train/ and validation/" in fault(tmp_path)


def test_what_editors_leave_behind_is_no_data(tmp_path: Path, shapes: Path) -> None:
    root = tmp_path / "shapes"
    shutil.copytree(shapes, root)
    left = [".ipynb_checkpoints", "__MACOSX", "bar/.cache", "@eaDir", "bar/@eaDir", "$RECYCLE.BIN"]
    for place in (root / name for name in left):
        shutil.copytree(shapes / "dot", place)
    (root / "bar" / "._00.png").write_bytes(b"x")
    assert read_folder(root).images == read_folder(shapes).images


def test_a_class_folder_that_is_a_link_to_nowhere_is_refused(tmp_path: Path, shapes: Path) -> None:
    root = tmp_path / "shapes"
    shutil.copytree(shapes, root)
    (root / "far").symlink_to(tmp_path / "not mounted")
    assert "is a link to" in fault(root) and "not mounted, which is not there" in fault(root)


def test_it_says_where_the_classes_are(tmp_path: Path, shapes: Path) -> None:
    shutil.copytree(shapes, tmp_path / "a" / "dataset")
    assert f"Give {tmp_path / 'a' / 'dataset'}, which has folders" in fault(tmp_path / "a")
    shutil.copytree(shapes / "bar", tmp_path / "b" / "imgs")
    assert "or the table that names them" in fault(tmp_path / "b")
    for place in ("imgs/metadata.jsonl", "annotations.json"):
        (tmp_path / "b" / place).write_text("{}")
        assert f"{place} may hold the labels, and only CSV tables are read" in fault(tmp_path / "b")


def test_an_image_or_an_archive_is_no_folder(tmp_path: Path, shapes: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "shapes"), "zip", shapes)
    assert "is an archive: unpack it" in fault(Path(archive))
    assert "is an image: give the folder" in fault(shapes / "bar" / "00.png")


def test_a_stored_split_can_be_used_again(tmp_path: Path, shapes: Path) -> None:
    root = tmp_path / "shapes"
    shutil.copytree(shapes, root)
    (root / "bar" / "00.png").rename(root / "bar" / 'a "quoted", name.png')
    drawn = draw_split(read_folder(root), 0.25, 3)
    drawn.save(root)
    (root / "pictures.json").unlink()
    assert read_folder(root) == drawn


def test_splits_that_cannot_be_used(tmp_path: Path) -> None:
    root = table(tmp_path, ["a.jpg,x", "b.jpg,y"])
    for split, expected in (("train", "no images to validate"), ("validation", "no training")):
        (root / "split.csv").write_text(f"Image,split\na.jpg,{split}\nb.jpg,{split}\n")
        with pytest.raises(UserError, match=expected):
            draw_split(read_folder(root), 0.2, 0)
    assert len(draw_split(read_folder(root), 0.2, 0, to_train_on=False).indices("validation")) == 2


def test_a_split_file_must_name_every_image(tmp_path: Path) -> None:
    root = table(tmp_path, ["a.jpg,x", "b.jpg,y"])
    (root / "split.csv").write_text("Image,split\na.jpg,test\n")
    text = fault(root)
    assert "'test' is neither train nor validation" in text and "b.jpg is not in split.csv" in text


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=20),
    st.floats(0.05, 0.5),
    st.integers(0, 5),
)
def test_drawn_splits_are_stratified(counts: list[int], fraction: float, seed: int) -> None:
    images = [Sample(f"{c}/{i}", f"{c:03d}") for c, n in enumerate(counts) for i in range(n)]
    data = Dataset(Path(), tuple(images))
    try:
        drawn = draw_split(data, fraction, seed)
    except UserError:
        assert sum(n * fraction for n in counts) < len(counts)
        return
    for c, n in enumerate(counts):
        held_out = sum(p.split == "validation" for p in drawn.images if p.label == f"{c:03d}")
        assert held_out in {int(n * fraction), int(n * fraction) + 1} | {n - 1}
        assert held_out < n
    assert draw_split(data, fraction, seed) == drawn


def test_unreadable_images_are_skipped_with_a_list(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "shapes", each=70)
    (root / "dot" / "00.png").write_bytes(b"")
    whole = (root / "bar" / "01.png").read_bytes()
    (root / "bar" / "01.png").write_bytes(whole[: len(whole) // 2])
    data = drop_unreadable(read_folder(root), quiet)
    assert len(data.skipped) == 2
    assert data.skipped[0].startswith("bar/01.png: ")
    assert len(data.images) == 3 * 70 + 6 - 2

    for i in range(3):
        (root / "dot" / f"0{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"4 of 216 images .* more than 1%"):
        drop_unreadable(read_folder(root), quiet)


def test_a_data_set_survives_storage(tmp_path: Path, shapes: Path) -> None:
    data = draw_split(read_folder(shapes), 0.25, 0)
    data.save(tmp_path)
    assert Dataset.load(tmp_path, shapes) == data
    assert (tmp_path / "split.csv").read_text().count("validation") == 9


def test_pixels_are_what_deployment_sees(tmp_path: Path, shapes: Path) -> None:
    data = read_folder(shapes)
    spec = InputSpec(
        height=24, width=24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), classes=data.classes
    )
    stored = Decoded(data, tmp_path)(spec)
    assert stored.shape == (len(data.images), 24, 24, 3) and stored.dtype == np.uint8
    chosen = np.array([0, 5, 20])
    deployed = preprocess(data.paths(chosen), spec)
    np.testing.assert_array_equal(normalise(stored[chosen], spec), deployed)
    by_hand = (stored[5, 3, 7, 1] / 255 - 0.5) / 0.3
    assert deployed[1, 1, 3, 7] == pytest.approx(by_hand, rel=1e-5)


PART = "pixels-v2-24-crop.part"


def test_only_what_is_asked_for_is_decoded_and_kept(tmp_path: Path, shapes: Path) -> None:
    spec, data = fitted(24, 24), read_folder(shapes)
    expected = np.stack([load_image(path, spec) for path in data.paths(np.arange(42))])
    some = np.array([30, 2, 2, 17])
    np.testing.assert_array_equal(Decoded(data, tmp_path).of(some, spec), expected[some])
    there = np.frombuffer((tmp_path / PART).read_bytes()[-42:], bool)
    assert np.flatnonzero(there).tolist() == [2, 17, 30]

    elsewhere = replace(data, root=tmp_path / "nothing here")
    known = Decoded(elsewhere, tmp_path)
    np.testing.assert_array_equal(known.of(some[::-1], spec), expected[some[::-1]])
    np.testing.assert_array_equal(np.concatenate([*known.batches(some, spec, 3)]), expected[some])
    with pytest.raises(UserError, match="cannot be read as an image"):
        known(spec)

    np.testing.assert_array_equal(Decoded(data, tmp_path)(spec), expected)
    assert [file.name for file in tmp_path.iterdir()] == ["pixels-v2-24-crop.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "pixels-v2-24-crop.npy"), expected)
    np.testing.assert_array_equal(known(spec), expected)


@pytest.mark.parametrize("left", [0, 10, 5000, -42, -20, -1])
def test_what_a_kill_left_is_gone_on_from(left: int, tmp_path: Path, shapes: Path) -> None:
    """Cut anywhere: what is not known to be there is decoded anew."""
    spec, data = fitted(24, 24), read_folder(shapes)
    chosen = np.arange(0, 42, 5)
    expected = Decoded(data, tmp_path).of(chosen, spec).copy()
    whole = (tmp_path / PART).read_bytes()
    (tmp_path / PART).write_bytes(whole[:left])
    np.testing.assert_array_equal(Decoded(data, tmp_path).of(chosen, spec), expected)


def test_a_full_disk_is_said_where_images_are_decoded(tmp_path: Path, shapes: Path) -> None:
    resource = pytest.importorskip("resource")
    spec, data = fitted(24, 24), read_folder(shapes)
    chosen = np.arange(42)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError, match="The disk is full"):
            Decoded(data, tmp_path).of(chosen, spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = Decoded(data, tmp_path).of(chosen, spec)
    np.testing.assert_array_equal(found, [load_image(x, spec) for x in data.paths(chosen)])


def test_exif_orientation_and_aspect_ratio(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), "black")
    image.paste("white", (0, 0, 30, 20))  # left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = load_image(tmp_path / "a.jpg", fitted(60, 20, "stretch"))
    assert upright[5].mean() > 240 and upright[55].mean() < 15
    cropped = load_image(tmp_path / "a.jpg", fitted(20, 20, "crop"))  # the centre of 20 x 60
    assert cropped[2].mean() > 240 and cropped[17].mean() < 15


def test_sixteen_bits_are_not_clipped_to_white(tmp_path):
    ramp = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    read = load_image(tmp_path / "deep.png", fitted(64, 64, "crop"))
    assert read[0, :, 0].tolist() == (ramp[0] >> 8).tolist()


GREYS = np.tile(np.arange(0, 256, 4), (64, 1))  # 8 bits, from black to almost white


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("unit.tif", (GREYS / 255).astype(np.float32)),
        ("overshot.tif", ((GREYS * 1.04 - 3) / 255).astype(np.float32)),
        ("float255.tif", GREYS.astype(np.float32)),
        ("float12.tif", (GREYS * 4095 / 255).astype(np.float32)),
        ("int8.tif", GREYS.astype(np.int32)),
        ("int20.tif", (GREYS << 12).astype(np.int32)),
        ("twelve.png", (GREYS << 4).astype(np.uint16)),
        ("sixteen.tif", (GREYS << 8).astype(np.uint16)),
    ],
)
def test_deep_images_are_scaled_by_their_range(
    name: str, values: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(values).save(tmp_path / name)
    read = load_image(tmp_path / name, fitted(64, 64, "crop"))
    expected = (GREYS * 1.04 - 3).clip(0, 255).round() if name == "overshot.tif" else GREYS
    np.testing.assert_array_equal(read, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    "values",
    [
        (GREYS.astype(np.int32) - 100),
        (GREYS / 255).astype(np.float32) * 2 - 1,
        np.full((64, 64), np.nan, np.float32),
    ],
)
def test_deep_images_without_a_range_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match=r"its pixels are numbers from .* scale them to 0 to 1"):
        load_image(tmp_path / "a.tif", fitted(64, 64, "crop"))


def test_many_images_of_one_colour_are_said(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "shapes", each=8)
    assert drop_unreadable(read_folder(root), quiet).notes == ()
    for i in range(4):
        Image.new("RGB", (20, 20), "black").save(root / "dot" / f"0{i}.png")
    (note,) = drop_unreadable(read_folder(root), quiet).notes
    assert note.startswith("4 of 30 images are of a single colour each (dot/00.png, …)")


def deep(root: Path, *highest: float, kind: type = np.uint16) -> Path:
    """Two classes of grey images, whose largest values are given."""
    for i, high in enumerate(highest):
        path = root / "ab"[i % 2] / f"{i:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.arange(64).reshape(8, 8) * high / 63).astype(kind)).save(path)
    return root


@pytest.mark.parametrize(
    ("highest", "kind", "full"),
    [
        ((3000, 4095, 300, 0), np.uint16, 4095),
        ((40_000, 4096), np.uint16, 65535),
        ((200, 9), np.int32, 255),
        ((1, 0.25), np.float32, 1),
    ],
)
def test_the_range_that_deep_images_are_read_by_is_said(
    highest: tuple[float, ...], kind: type, full: int, tmp_path: Path
) -> None:
    note = drop_unreadable(read_folder(deep(tmp_path, *highest, kind=kind)), quiet).notes[-1]
    assert f"hold numbers from 0 to {full}, as their largest values say" in note
    assert "8 bits" in note


def test_deep_images_of_several_ranges_are_refused(tmp_path: Path) -> None:
    """Each is scaled by its own: 4095 would be white, and 4096 dark grey."""
    data = read_folder(deep(tmp_path, 4000, 3000, 4100, 255))
    with pytest.raises(UserError) as caught:
        drop_unreadable(data, quiet)
    text = str(caught.value)
    assert (
        "1 hold numbers to 255 (b/03.tif), 2 to 4095 (a/00.tif, …), 1 to 65535 (a/02.tif)" in text
    )
    assert "save all with 8 bits a channel" in text
    class_folders(tmp_path, each=4)  # those of 8 bits have a range of their own
    for name in ("a/02.tif", "b/03.tif"):
        (tmp_path / name).unlink()
    assert "to 4095" in drop_unreadable(read_folder(tmp_path), quiet).notes[-1]
