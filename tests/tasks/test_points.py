"""Points in images: annotations, where they lie in an input and in its views, what is right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from compress.data.coordinates import to_image, to_input, upright_size
from compress.data.dataset import Dataset, Sample
from compress.data.input_spec import BOX, GREY, InputSpec, load_image
from compress.data.keypoints import PointColumns, drop_misplaced
from compress.data.layouts import read_folder
from compress.data.mirrored_views import MIRROR
from compress.data.split import draw_split
from compress.metrics.keypoints import KeypointTolerance, angle_errors, distances, iou
from compress.results.schema import Accuracy
from compress.tasks import task_of
from compress.tasks.keypoints import losses
from compress.tasks.keypoints.views import move_points
from compress.training.augmentation import apply_views, draw_views
from compress.training.batches import ImageFeed
from compress.training.settings import Augmentation, TrainSettings
from compress.utils.errors import UserError

SIZES = st.integers(1, 3000)
CPU = torch.device("cpu")


def spec_of(
    height: int = 32, width: int = 32, fit: str = "stretch", points: tuple[str, ...] = ("a", "b")
) -> InputSpec:
    return InputSpec.model_validate(
        {
            "height": height,
            "width": width,
            "mean": (0, 0, 0),
            "std": (1, 1, 1),
            "fit": fit,
            "points": points,
        }
    )


# Where pixels come to lie

FITS = ["crop", "stretch", "letterbox"]


@given(
    st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES), st.sampled_from(FITS),
    st.lists(st.floats(-2, 3), min_size=4, max_size=4),
)  # fmt: skip
def test_there_and_back(
    image: tuple[int, int], input_: tuple[int, int], fit: str, at: list[float]
) -> None:
    spec, sizes = spec_of(*input_, fit), np.array([image])
    pixels = np.array(at).reshape(1, 2, 2) * sizes[:, None]
    again = to_image(to_input(pixels, sizes, spec), sizes, spec)
    np.testing.assert_allclose(again, pixels, atol=1e-6 * max(image))


@given(
    st.tuples(st.integers(20, 90), st.integers(20, 90)), st.sampled_from(FITS),
    st.integers(1, 8), st.tuples(st.floats(0.4, 0.6), st.floats(0.4, 0.6)),
    st.sampled_from(["a.png", "a.tif"]),
)  # fmt: skip
def test_it_is_where_images_are_loaded_to(
    size: tuple[int, int], fit: str, orientation: int, at: tuple[float, float], name: str
) -> None:
    """A white patch of the upright image, looked up in what the network gets."""
    import tempfile

    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    x, y = int(at[0] * width), int(at[1] * height)
    spec, sizes = spec_of(48, 64, fit), np.array([size])
    corners = to_input(np.array([[[x - 2, y - 2], [x + 3, y + 3]]]), sizes, spec)
    assume((corners >= 0).all() and (corners <= 1).all())  # not cut off
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255  # centre: x + 0.5, y + 0.5
    upright = Image.fromarray(pixels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        turns = {
            2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }  # fmt: skip
        stored = upright.transpose(turns[orientation]) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(path, exif=exif)
        assert upright_size(path) == size
        loaded = load_image(path, spec)[..., 0].astype(float)
        loaded = np.maximum(loaded - GREY[0], 0)  # what a letterbox fills up with
    [[found]] = to_input(np.array([[[x + 0.5, y + 0.5]]]), sizes, spec)
    rows, columns = np.indices(loaded.shape) + 0.5
    centre = np.array([(columns * loaded).sum(), (rows * loaded).sum()]) / loaded.sum()
    np.testing.assert_allclose(found * [64, 48], centre, atol=1.0)


def test_large_jpegs_that_are_decoded_smaller(tmp_path: Path) -> None:
    """Decoding at an eighth rounds the size up: half an input pixel at most."""
    pixels = np.zeros((643, 967, 3), np.uint8)
    pixels[480:520, 680:720] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    for fit in FITS:
        loaded = load_image(tmp_path / "a.jpg", spec_of(40, 40, fit))[..., 0].astype(float)
        loaded = np.maximum(loaded - GREY[0], 0)
        rows, columns = np.indices(loaded.shape) + 0.5
        centre = np.array([(columns * loaded).sum(), (rows * loaded).sum()]) / loaded.sum()
        [[found]] = to_input(np.array([[[700, 500]]]), np.array([(967, 643)]), spec_of(40, 40, fit))
        near = 1.0 if fit == "letterbox" else 0.5  # its edges lie on whole pixels
        np.testing.assert_allclose(40 * found, centre, atol=near)


# Annotations


def columns(**points: list[str]) -> PointColumns:
    return PointColumns.of(list(points), [column for xy in points.values() for column in xy])


RED_GREEN = columns(red=["red_x", "red_y"], green=["green_x", "green_y"])


def test_points_and_boxes_are_read(dots: Path) -> None:
    data = drop_misplaced(read_folder(dots / "points.csv", points=RED_GREEN), print)
    line = (dots / "points.csv").read_text().splitlines()[1].split(",")
    assert data.points == ("red", "green") and data.classes == ()
    assert data.images[0].points == tuple((float(x), float(y)) for x, y in (line[1:3], line[3:5]))
    assert data.images[0].size == (48, 32)
    assert len(data.indices("unlabelled")) == 4
    box = drop_misplaced(read_folder(dots / "box.csv", points=PointColumns.of(BOX)), print)
    reds, greens = np.moveaxis(data.coordinates[:40], 1, 0)
    np.testing.assert_array_equal(box.coordinates[:40, 0], np.minimum(reds, greens) - 3)
    np.testing.assert_array_equal(box.coordinates[:40, 1], np.maximum(reds, greens) + 3)


def test_a_box_comes_before_points_of_the_same_network() -> None:
    both = PointColumns.of((*BOX, "a"), ["l", "t", "w", "h", "u", "v"])
    annotations = {"l": 1.0, "t": 2.0, "w": 10.0, "h": 20.0, "u": 5.0, "v": 6.0}
    assert both.points(annotations) == ((1, 2), (11, 22), (5, 6))
    assert PointColumns.of((*BOX, "a")).columns == ("x", "y", "width", "height", "a_x", "a_y")


def test_a_split_and_storage_keep_the_points(dots: Path, tmp_path: Path) -> None:
    data = drop_misplaced(read_folder(dots / "points.csv", points=RED_GREEN), print)
    drawn = draw_split(data, 0.25, 0)
    assert len(drawn.indices("validation")) == 10 and len(drawn.indices("train")) == 30
    drawn.save(tmp_path)
    assert Dataset.load(tmp_path, data.root) == drawn
    assert "30 training and 10 validation images with red and green" in drawn.describe()
    assert len((tmp_path / "split.csv").read_text().splitlines()) == 41


def frames(root: Path, rows: list[str], header: str = "Image,x,y,width,height") -> Path:
    (root / "imgs").mkdir(parents=True)
    for row in rows:
        Image.new("RGB", (40, 20)).save(root / "imgs" / row.split(",")[0])
    (root / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def test_a_wrong_column_is_named_and_the_right_one_offered(dots: Path) -> None:
    wrong = columns(red=["red_x", "redy"], green=["green_x", "green_y"])
    with pytest.raises(UserError, match=r"numbers in redy; .*Did you mean red_y\?"):
        read_folder(dots / "points.csv", points=wrong)
    with pytest.raises(UserError, match="give the CSV file itself"):
        read_folder(dots, points=RED_GREEN)


def test_images_without_a_number_are_unlabelled(tmp_path: Path) -> None:
    root = frames(tmp_path / "d", ["a.png,1,2,3,4", "b.png,1,,3,4", "c.png,1,2,nan,4"])
    data = read_folder(root, points=PointColumns.of(BOX))
    assert [p.split for p in data.images] == [None, "unlabelled", "unlabelled"]
    labels = task_of(spec_of(points=BOX)).targets(drop_misplaced(data, print))
    np.testing.assert_allclose(labels[0], [1 / 40, 2 / 20, 4 / 40, 6 / 20])
    assert np.isnan(labels[1:]).all() and labels.dtype == np.float32


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("z.png,38,2,30,4", "outside the image of 40 x 20"),
        ("z.png,-1.5,2,3,4", "outside"),
        ("z.png,1,2,0,4", "no area"),
        ("z.png,5,2,-3,4", "no area"),
    ],
)
def test_impossible_annotations_are_named(row: str, fault: str, tmp_path: Path) -> None:
    good = [f"{i:03d}.png,-0.5,2,3,18.9" for i in range(120)]
    data = read_folder(frames(tmp_path / "d", [*good, row]), points=PointColumns.of(BOX))
    said: list[str] = []
    cleaned = drop_misplaced(data, said.append)
    assert len(said) == 1 and "imgs/z.png" in said[0] and fault in said[0]
    assert cleaned.images[-1].split == "unlabelled" and not cleaned.images[-1].points
    few = read_folder(frames(tmp_path / "few", [*good[:20], row]), points=PointColumns.of(BOX))
    with pytest.raises(UserError, match=r"1 of 21 annotations .* more than 1%"):
        drop_misplaced(few, said.append)


def test_points_that_are_one(tmp_path: Path) -> None:
    two = columns(a=["ax", "ay"], b=["bx", "by"])
    root = frames(tmp_path / "d", ["a.png,3,4,3,4"], "Image,ax,ay,bx,by")
    with pytest.raises(UserError, match="all points are one"):
        drop_misplaced(read_folder(root, points=two), print)
    one = frames(tmp_path / "e", ["a.png,3,4"], "Image,ax,ay")
    kept = drop_misplaced(read_folder(one, points=columns(a=["ax", "ay"])), print)
    assert kept.images[0].points == ((3.0, 4.0),)


# Views


@given(st.integers(0, 10_000))
def test_points_move_with_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(40, 70)), int(rng.integers(40, 70))
    spec = spec_of(height, width, points=("a",))
    # So far inside that no view mirrors it in from the edge: at 15 pixels 13 seeds of 10,001 did.
    x, y = rng.integers(19, width - 19), rng.integers(19, height - 19)
    image = np.zeros((1, height, width, 3), np.uint8)
    image[0, y - 1 : y + 2, x - 1 : x + 2] = 255
    settings = Augmentation(
        rotation_degrees=40, scale=0.2, shift=0.05, brightness=0, contrast=0, mirror="same"
    )
    view = draw_views(1, settings, rng)
    seen = apply_views(image, view, spec, CPU)[0, 0].double().numpy()
    start = torch.tensor([[(x + 0.5) / width, (y + 0.5) / height]], dtype=torch.float32)
    [[u, v]] = move_points(start, view, spec).tolist()
    rows, columns = np.indices(seen.shape) + 0.5
    near = (abs(columns - u * width) < 5) & (abs(rows - v * height) < 5)  # no mirrored dot
    assert near.any() and seen[near].sum() > 0.5 * seen.sum()
    patch = seen * near
    centre = np.array([(columns * patch).sum(), (rows * patch).sum()]) / patch.sum()
    np.testing.assert_allclose([u * width, v * height], centre, atol=0.6)


def test_a_box_stays_round_the_ellipse_that_it_was_round() -> None:
    rng = np.random.default_rng(0)
    spec = spec_of(80, 120, points=BOX)
    settings = Augmentation(rotation_degrees=180, scale=0.3, shift=0.2)
    views = draw_views(20, settings, rng)
    boxes = torch.tensor(rng.uniform([0.2, 0.2, 0.6, 0.6], [0.5, 0.5, 0.9, 0.9], (20, 4))).float()
    turn = np.linspace(0, 2 * np.pi, 2000)
    found = move_points(boxes, views, spec).numpy()
    for box, view, got in zip(boxes.numpy(), views, found, strict=True):
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        ring = centre + half * np.stack([np.cos(turn), np.sin(turn)], 1)
        points = torch.tensor(ring.astype(np.float32).reshape(-1, 2))
        moved = move_points(
            points, np.tile(view, (len(points), 1)), spec_of(80, 120, points=("a",))
        )
        np.testing.assert_allclose(got[:2], moved.numpy().min(0), atol=1e-4)
        np.testing.assert_allclose(got[2:], moved.numpy().max(0), atol=1e-4)


def test_a_mirrored_box_is_round_what_it_was_round() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((8, 80, 120, 3), np.uint8)
    image[:, 20:50, 10:40] = 255  # in the left half, so that the mirror image is in the right one
    settings = Augmentation.none().model_copy(update={"mirror": "same", "shift": 0.02})
    views = draw_views(8, settings, rng)
    assert {*views[:, MIRROR]} == {0, 1}
    spec = spec_of(80, 120, points=BOX)
    boxes = torch.tensor([[10 / 120, 20 / 80, 40 / 120, 50 / 80]] * 8)
    seen = apply_views(image, views, spec, CPU)[:, 0].numpy() > 0.5
    for shown, box in zip(seen, move_points(boxes, views, spec).tolist(), strict=True):
        rows, columns = np.nonzero(shown)
        white = (columns.min() / 120, rows.min() / 80, (columns.max() + 1) / 120)
        np.testing.assert_allclose(box[:3], white, atol=0.011)
        assert box[3] == pytest.approx((rows.max() + 1) / 80, abs=0.011)


def test_a_box_and_points_move_as_they_do_alone() -> None:
    rng = np.random.default_rng(0)
    settings = Augmentation(rotation_degrees=180, scale=0.3, shift=0.2, mirror="same")
    views = draw_views(20, settings, rng)
    boxes = torch.tensor(rng.uniform([0.2, 0.2, 0.6, 0.6], [0.5, 0.5, 0.9, 0.9], (20, 4))).float()
    points = torch.tensor(rng.uniform(0, 1, (20, 4))).float()
    found = move_points(torch.cat([boxes, points], 1), views, spec_of(points=(*BOX, "a", "b")))
    np.testing.assert_allclose(found[:, :4], move_points(boxes, views, spec_of(points=BOX)))
    alone = move_points(points, views, spec_of(points=("a", "b")))
    np.testing.assert_allclose(found[:, 4:], alone, atol=1e-6)


def test_feeds_give_the_points_of_their_views(dots: Path, tmp_path: Path) -> None:
    from compress.data.image_cache import Decoded

    data = drop_misplaced(read_folder(dots / "points.csv", points=RED_GREEN), print)
    data = draw_split(data, 0.25, 0)
    spec = spec_of(points=data.points)
    pool = data.indices("train", "unlabelled")
    settings = TrainSettings(epochs=1, batch_size=34)
    feed = ImageFeed(data, Decoded(data, tmp_path), spec, settings, pool, 34, 0, CPU)
    [batch] = feed.batches(0)
    unlabelled = ~np.isin(batch.indices, data.indices("train"))
    assert torch.isnan(batch.targets[unlabelled]).all() and unlabelled.sum() == 4
    labels = torch.from_numpy(task_of(spec).targets(data)[batch.indices])
    expected = move_points(labels, batch.views, spec)
    torch.testing.assert_close(batch.targets, expected, equal_nan=True)
    # The red dot is red where the label says, in the images of the batch.
    for image, (x, y, *_) in zip(
        batch.inputs[~unlabelled], batch.targets[~unlabelled], strict=True
    ):
        assert image[0, int(32 * y), int(32 * x)] > 0.4
    [(_, judge)] = feed.validation(0)
    truth = task_of(spec).targets(data)[data.indices("validation")]
    assert all(judge({"coordinates": truth}))
    assert not any(judge({"coordinates": truth + 0.3}))


# Loss


def smooth_l1(found: np.ndarray, true: np.ndarray) -> float:
    error = np.abs(found - true)
    beta = losses.BETA
    return float(np.where(error < beta, error**2 / (2 * beta), error - beta / 2).mean())


def test_the_loss_and_its_gradient() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(size=(5, 4))
    found = true + rng.normal(size=(5, 4)) * 0.03
    tensor = torch.tensor(found, requires_grad=True)
    loss = losses.points(tensor, torch.tensor(true))
    assert loss.item() == pytest.approx(smooth_l1(found, true), rel=1e-6)
    loss.backward()
    assert tensor.grad is not None
    for i, j in [(0, 0), (3, 2), (4, 3)]:
        step = np.zeros_like(found)
        step[i, j] = 1e-6
        numeric = (smooth_l1(found + step, true) - smooth_l1(found - step, true)) / 2e-6
        assert float(tensor.grad[i, j]) == pytest.approx(numeric, rel=1e-3, abs=1e-7)


def test_unlabelled_images_do_not_count() -> None:
    labels = torch.tensor([[0.5, 0.5], [torch.nan, 0.1], [torch.nan, torch.nan]])
    outputs = torch.tensor([[0.6, 0.5], [9.0, 9.0], [9.0, 9.0]], requires_grad=True)
    loss = losses.annotated(outputs, labels)
    assert loss.item() == pytest.approx((0.1 - losses.BETA / 2) / 2)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert torch.isfinite(gradient).all() and not gradient[1:].any()


# Judging


corners = st.tuples(st.integers(0, 20), st.integers(0, 20))
boxes = st.tuples(corners, corners)


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=8))
def test_intersection_over_union_counts_pixels(pairs: list[Any]) -> None:
    """Of boxes of tenths, with swapped corners too: those hold no pixel."""

    def pixels(box: Any) -> np.ndarray:
        mask = np.zeros((20, 20), bool)
        mask[box[0][1] : box[1][1], box[0][0] : box[1][0]] = True
        return mask

    def counted(one: Any, other: Any) -> float:
        a, b = pixels(one), pixels(other)
        return float((a & b).sum() / max(1, (a | b).sum()))

    found, true = np.array(pairs).swapaxes(0, 1) / 10
    assert iou(found, true) == pytest.approx([counted(*pair) for pair in pairs])
    assert iou(found, found) == pytest.approx([counted(one, one) for one, _ in pairs])


def test_distances_and_angles() -> None:
    true = np.array([[[10.0, 0], [0, 0]], [[3, 4], [0, 0]]])
    found = np.array([[[10.0, 1], [0, -1]], [[-3, -4], [0, 0]]])
    sizes = np.full((2, 2), 100.0)
    np.testing.assert_allclose(distances(found, true, sizes), [[0.1, 0.1], [2, 0]])
    np.testing.assert_allclose(angle_errors(found, true), [np.degrees(np.arctan2(2, 10)), 180])
    single = distances(found[:, :1], true[:, :1], np.array([[3.0, 4.0], [30, 40]]))
    np.testing.assert_allclose(single, [[0.2], [0.2]])


angles, lengths = st.floats(-720, 720), st.floats(0.1, 50)


@given(angles, angles, lengths, lengths)
def test_the_angle_error_knows_no_full_turns(a: float, b: float, one: float, other: float) -> None:
    def pair(degrees: float, length: float) -> np.ndarray:
        z = length * np.exp(1j * np.radians(degrees))
        return np.array([[[5 + z.real, 7 + z.imag], [5, 7]]])

    between = np.degrees(abs(np.angle(np.exp(1j * np.radians(a - b)))))
    assert angle_errors(pair(a, one), pair(b, other))[0] == pytest.approx(between, abs=1e-5)


def annotated(points: np.ndarray, names: tuple[str, ...], size: tuple[int, int]) -> Dataset:
    images = [
        Sample(str(i), None, "validation", points=tuple((x, y) for x, y in p), size=size)
        for i, p in enumerate(points.tolist())
    ]
    return Dataset(Path(), tuple(images), points=names)


def scored_as(
    outputs: np.ndarray,
    data: Dataset,
    indices: np.ndarray,
    spec: InputSpec,
    bounds: KeypointTolerance,
) -> Accuracy:
    return task_of(spec).score(
        lambda asked: {"coordinates": outputs}, data, indices, bounds, in_run=False
    )


@pytest.mark.parametrize("fit", FITS)
def test_what_is_right_is_asked_in_pixels_of_the_image(fit: str) -> None:
    """The same error along and across counts the same in a wide image."""
    true = np.array([[[80.0, 50], [120, 50]]] * 4)
    off = np.array([[3.9, 0], [0, 3.9], [4.1, 0], [0, 4.1]])[:, None]  # head length: 40
    data, spec = annotated(true, ("a", "b"), (200, 100)), spec_of(fit=fit)
    indices = np.arange(4)
    outputs = to_input(true + off, data.sizes, spec).reshape(4, 4).astype(np.float32)
    judge = task_of(spec).judge(data, indices, KeypointTolerance(0.1))
    assert judge({"coordinates": outputs}) == [True, True, False, False]
    scored = scored_as(outputs, data, indices, spec, KeypointTolerance(0.1))
    assert scored.correct == "1100" and scored.top1.value == 0.5 and scored.word == "right answers"
    assert scored.points is not None and scored.top5 is scored.log_loss is None
    assert scored.points.median_distance == pytest.approx(0.1, abs=1e-3)
    assert scored.points.median_angle_degrees == pytest.approx(0, abs=1e-3)
    assert scored.points.mean_iou is None and "0.1" in scored.points.rule
    one_off = outputs.copy()
    one_off[0, 2] += 0.5  # the other point
    assert not judge({"coordinates": one_off})[0]


def test_a_box_is_right_by_its_overlap() -> None:
    true = np.array([[[10.0, 10], [30, 30]]] * 2)
    found = true + np.array([[[0.0, 0], [0, 10]], [[15.0, 0], [15, 0]]])  # IoU 2/3 and 1/7
    data, spec = annotated(true, BOX, (100, 50)), spec_of(points=BOX)
    outputs = to_input(found, data.sizes, spec).reshape(2, 4)
    scored = scored_as(outputs, data, np.arange(2), spec, KeypointTolerance(iou=0.5))
    assert scored.correct == "10" and scored.points is not None
    assert scored.points.mean_iou == pytest.approx((2 / 3 + 1 / 7) / 2)
    assert scored.points.median_angle_degrees is None and scored.points.tolerance is None
    judge = task_of(spec).judge(data, np.arange(2), KeypointTolerance(iou=0.7))
    assert judge({"coordinates": outputs}) == [False, False]


def test_a_box_and_points_at_once_must_both_be_right() -> None:
    names = (*BOX, "a", "b")
    true = np.array([[[10.0, 10], [30, 30], [12, 20], [28, 20]]] * 4)
    found = true.copy()
    found[1, 1, 1] += 40  # the box: IoU 1/3
    found[2, 2, 1] += 2.4  # a point, 0.15 of what is between the two
    found[3, 3, 1] += 0.8  # 0.05 of it
    data, spec = annotated(true, names, (100, 100)), spec_of(points=names)
    assert spec.has_box and spec.without_box == ("a", "b")
    outputs = to_input(found, data.sizes, spec).reshape(4, 8)
    scored = scored_as(outputs, data, np.arange(4), spec, KeypointTolerance(0.1, 0.5))
    assert scored.correct == "1001" and scored.points is not None
    assert scored.points.mean_iou == pytest.approx((1 + 1 / 3 + 1 + 1) / 4)
    assert scored.points.p90_distance == pytest.approx(
        np.quantile([0] * 6 + [0.15, 0.05], 0.9), rel=1e-6
    )
    assert scored.points.median_angle_degrees == pytest.approx(
        np.degrees(np.arctan2(0.8, 16)) / 2, abs=1e-3
    )  # of 0, 0, the smaller and the larger
    assert "0.5, and every point is at most 0.1 off" in scored.points.rule


def test_classes_are_judged_as_ever() -> None:
    images = tuple(Sample(str(i), c, "validation") for i, c in enumerate("abca"))
    data = Dataset(Path(), images)
    spec = spec_of(points=()).model_copy(update={"classes": ("a", "b", "c")})
    logits = np.eye(3)[[0, 1, 1, 2]]
    judge = task_of(spec).judge(data, np.arange(4), KeypointTolerance())
    assert judge({"logits": logits}) == [True, True, False, False]


# The importance of channels


def test_importance_of_a_network_of_points_is_its_gaussian_fisher_information() -> None:
    """The expected squared derivative by each gate, from the Jacobian."""
    torch.manual_seed(0)
    jacobian = torch.randn(4, 3)
    gates = torch.ones(3, requires_grad=True)
    total = torch.zeros(3)
    for _ in range(4000):
        outputs = {"coordinates": (jacobian @ gates)[None]}
        (gradient,) = torch.autograd.grad(task_of(spec_of()).drawn_loss(outputs), gates)
        total += gradient**2
    torch.testing.assert_close(total / 4000, (jacobian**2).sum(0), rtol=0.1, atol=0)
