"""Views: where a network looks, against marked pixels and independent algebra."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from compress.cascade.views import View, _seen, around, brought_to, cut, whole
from compress.data.input_spec import GREY, InputSpec, load_image

pixels = st.floats(-500, 3000)
points = st.tuples(pixels, pixels)
fractions = st.tuples(st.floats(0, 1), st.floats(0, 1))
aspects = st.floats(0.3, 3)
seeds = st.integers(0, 1000)
SIZE = 128


def blob(size: tuple[int, int], at: tuple[float, float], radius: float) -> Image.Image:
    """A white disc on black, its centre in continuous coordinates."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    disc = np.hypot(x - at[0], y - at[1]) < radius
    return Image.fromarray(np.repeat((disc * 255).astype(np.uint8)[..., None], 3, 2))


def centre(image: np.ndarray) -> tuple[float, float]:
    """Centre of mass in fractions of the sides."""
    mass = image[..., 0].astype(float)
    mass = np.where(mass > 60, mass, 0)
    y, x = np.mgrid[: mass.shape[0], : mass.shape[1]] + 0.5
    return (
        float((mass * x).sum() / mass.sum() / mass.shape[1]),
        float((mass * y).sum() / mass.sum() / mass.shape[0]),
    )


@given(points, points, points, fractions)
def test_there_and_back(p, q, r, fraction):
    (a, d), (b, e), (c, f) = p, q, r
    if abs(a * e - b * d) < 1:
        return
    view = View(a, b, c, d, e, f)
    back = view.to_view(view.to_photograph(fraction))
    assert back == pytest.approx(fraction, abs=1e-3)


@given(points, points, fractions, fractions, aspects)
def test_a_warp_brings_both_points_to_their_places_undistorted(p, q, u, v, aspect):
    if math.dist(p, q) < 1 or math.dist(u, v) < 0.01:
        return
    view = brought_to([p, q], [u, v], aspect)
    assert view.to_view(p) == pytest.approx(u, abs=1e-6)
    assert view.to_view(q) == pytest.approx(v, abs=1e-6)
    # A similarity: pixels across and down are equally long, at right angles and not mirrored.
    across, down = complex(view.a, view.d) / aspect, complex(view.b, view.e)
    assert down == pytest.approx(across * 1j, rel=1e-6)


@given(st.lists(points, min_size=1, max_size=4), st.floats(0, 1), aspects)
def test_a_crop_is_centred_holds_all_points_and_has_the_inputs_shape(found, margin, aspect):
    view = around(found, margin, aspect)
    assert view.a / view.e == pytest.approx(aspect)
    for point in found:
        x, y = view.to_view(point)
        assert -1e-6 <= x <= 1 + 1e-6 and -1e-6 <= y <= 1 + 1e-6
    xs, ys = zip(*found, strict=True)
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    assert view.to_view(middle) == pytest.approx((0.5, 0.5), abs=1e-6)
    across, down = max(xs) - min(xs), max(ys) - min(ys)
    added = 2 * margin * max(across, down)
    assert view.a >= across + added - 1e-6 and view.e >= down + added - 1e-6


@given(st.floats(0, 2 * math.pi), aspects)
def test_a_turn_keeps_the_centre_and_lengths(angle, aspect):
    view = around([(100, 200), (300, 260)], 0.2, aspect)
    turned = view.turned(angle, aspect)
    assert turned.to_photograph((0.5, 0.5)) == pytest.approx(view.to_photograph((0.5, 0.5)))
    across = complex(turned.a, turned.d)
    assert across == pytest.approx(view.a * np.exp(1j * angle))
    assert complex(turned.b, turned.e) / 1j == pytest.approx(across / aspect)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("scale", [0.6, 1.0, 5.3])
def test_a_marked_place_appears_where_the_view_says(angle, scale):
    at = (610.3, 420.7)
    photograph = blob((1200, 900), at, 12 * scale)
    view = around([(500, 300), (500 + 128 * scale, 300 + 128 * scale)], 0.0, 1.0)
    view = View(view.a, 0, at[0] - 0.4 * view.a, 0, view.e, at[1] - 0.6 * view.e)
    view = view.turned(angle, 1.0)
    shown = cut(photograph, view, SIZE, SIZE)
    assert shown.shape == (SIZE, SIZE, 3)
    assert centre(shown) == pytest.approx(view.to_view(at), abs=0.6 / SIZE)


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("size", [(640, 427), (300, 500), (64, 64)])
def test_the_whole_photograph_is_seen_as_in_training(tmp_path, fit, size):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    spec = InputSpec(height=64, width=96, mean=(0, 0, 0), std=(1, 1, 1), fit=fit)
    boxed = fit == "letterbox"
    shown = cut(Image.fromarray(noise), whole(size, spec), 96, 64, letterbox=boxed)
    trained = load_image(tmp_path / "x.png", spec)
    apart = np.abs(shown.astype(int) - trained)
    assert apart.mean() <= 6 and apart.max() <= 32  # of noise, which has nothing but fine detail
    flat = np.full((*size[::-1], 3), (10, 200, 30), np.uint8)
    shown = cut(Image.fromarray(flat), whole(size, spec), 96, 64, letterbox=boxed)
    beside = (trained == GREY).all(-1) if boxed else np.zeros(shown.shape[:2], bool)
    assert (shown[~beside] == (10, 200, 30)).all() and (shown[beside] == GREY).all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_beside_a_letterbox_it_is_grey_however_it_is_turned(mode, angle):
    spec = InputSpec(height=64, width=64, mean=(0, 0, 0), std=(1, 1, 1), fit="letterbox")
    view = whole((400, 100), spec).turned(angle, 1.0)
    shown = cut(Image.new(mode, (400, 100), "white"), view, 64, 64, letterbox=True)
    assert (shown[32, 32] == 255).all() and (shown[2, 32] == GREY[0]).all()
    assert set(np.unique(shown)) == {GREY[0], 255}


def textured(width: int, height: int, seed: int) -> np.ndarray:
    """Detail of all sizes, the coarser the stronger, as photographs have it: uint8 (h, w, 3)."""
    rng, image = np.random.default_rng(seed), np.full((height, width, 3), 128.0)
    for step in (1, 2, 4, 8, 16, 32, 64):
        coarse = rng.integers(0, 256, (height // step + 1, width // step + 1, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image += (np.asarray(smooth) - 127.5) * step / 128
    return image.clip(0, 255).astype(np.uint8)


def triangles(outputs: int, inputs: int, start: float, extent: float) -> np.ndarray:
    """Weights of an antialiased bilinear scaling of [start, start + extent), (outputs, inputs)."""
    scale = extent / outputs
    centres = start + (np.arange(outputs) + 0.5) * scale
    away = np.abs(np.arange(inputs) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.maximum(0, 1 - away)
    return weights / weights.sum(1, keepdims=True)


sides = st.integers(8, 100)
shares = st.floats(0.15, 1.0)


@settings(deadline=None, max_examples=40)
@given(st.tuples(sides, sides), st.tuples(shares, shares), st.tuples(shares, shares), seeds)
@example((8, 8), (0.984375, 1.0), (1.0, 1.0), 155)  # by 73 at once: 2.04 apart
@example((8, 16), (1.0, 1.0), (1.0, 1.0), 1)  # with a gap of 2: 10.3 apart at the worst pixel
def test_an_upright_view_is_scaled_by_the_formula(size, extents, places, seed):
    """Antialiased, to within 2 of 255 on average, and 10 at the worst pixel."""
    photograph = textured(600, 400, seed)
    width, height = 600 * extents[0], 400 * extents[1]
    left, top = (600 - width) * (1 - places[0]), (400 - height) * (1 - places[1])
    down = triangles(size[1], 400, top, height)
    across = triangles(size[0], 600, left, width)
    expected = np.einsum("yh,hwc,xw->yxc", down, photograph, across, optimize=True)
    image = Image.fromarray(photograph)
    shown = cut(image, View(width, 0.0, left, 0.0, height, top), *size)
    apart = np.abs(shown - expected)
    assert apart.mean() <= 2 and apart.max() <= 10


def looked_up(image: np.ndarray, view: View, width: int, height: int) -> np.ndarray:
    """Bilinear between the centres of pixels, nearest at the edges; nan outside of the image."""
    y, x = (np.mgrid[:height, :width] + 0.5) / [[[height]], [[width]]]
    x, y = view.a * x + view.b * y + view.c, view.d * x + view.e * y + view.f
    rows, columns = image.shape[:2]
    outside = (x < 0) | (y < 0) | (x >= columns) | (y >= rows)
    left, top = np.floor(x - 0.5), np.floor(y - 0.5)
    right_share, lower_share = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]

    def at(down: int, across: int) -> np.ndarray:
        row = (top + down).clip(0, rows - 1).astype(int)
        return image[row, (left + across).clip(0, columns - 1).astype(int)]

    upper = at(0, 0) * (1 - right_share) + at(0, 1) * right_share
    lower = at(1, 0) * (1 - right_share) + at(1, 1) * right_share
    found = upper * (1 - lower_share) + lower * lower_share
    return np.where(outside[..., None], np.nan, found)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(sides, sides),
    st.floats(0, 2 * math.pi),
    st.floats(0.2, 4),
    st.floats(-0.2, 1.2),
    seeds,
)
def test_a_turned_view_is_looked_up_by_the_formula(size, angle, scale, place, seed):
    """Bilinearly, after a reduction by the mean of whole squares, to within 2 of 255."""
    assume(abs(scale - round(scale)) > 1e-6)  # or rounding decides by which factor it is reduced
    width, height = size
    photograph = textured(300, 200, seed)
    middle = (300 * place + 0.123, 200 * place + 0.077)  # no pixel lies on an edge
    corner = (middle[0] - width * scale / 2, middle[1] - height * scale / 2)
    view = View(width * scale, 0.0, corner[0], 0.0, height * scale, corner[1])
    view = view.turned(angle + 0.01, width / height)
    image = Image.fromarray(photograph)
    shown = cut(image, view, width, height).astype(float)
    factor = max(1, int(scale))
    kept = _seen(view, (300, 200), 2 * factor)
    if factor > 1 and kept is not None:
        left, top, right, bottom = kept
        part = photograph[top:bottom, left:right]
        rows, columns = (-(-n // factor) for n in part.shape[:2])
        reduced = np.array(
            [
                [
                    part[factor * r : factor * (r + 1), factor * c : factor * (c + 1)].mean((0, 1))
                    for c in range(columns)
                ]
                for r in range(rows)
            ]
        )
        moved = [view.a, view.b, view.c - left, view.d, view.e, view.f - top]
        expected = looked_up(reduced, View(*(x / factor for x in moved)), width, height)
    else:
        expected = looked_up(photograph, view, width, height)
    outside = np.isnan(expected[..., 0])
    assert np.abs(shown - expected)[~outside].max(initial=0) <= 2  # both steps give integers
    assert len(np.unique(shown[outside], axis=0)) <= 1


def test_outside_of_the_photograph_is_its_mean_colour():
    photograph = Image.new("RGB", (100, 100), (10, 200, 30))
    shown = cut(photograph, around([(-500, -500), (-400, -400)], 0, 1), 16, 16)
    assert (shown == (10, 200, 30)).all()


def test_points_that_fell_together_still_give_a_view():
    view = brought_to([(5.0, 5.0), (5.0, 5.0)], [(0.2, 0.5), (0.8, 0.5)], 1.0)
    assert all(map(math.isfinite, vars(view).values()))
    assert cut(Image.new("RGB", (1, 1)), view, 8, 8).shape == (8, 8, 3)
    assert around([(3.0, 3.0)], 0.5, 1.0).a == 1.0


@pytest.mark.parametrize("turned", [0.0, 0.7])
def test_a_view_in_grey_is_the_grey_of_the_view(turned: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 1), dtype=np.uint8)
    colour = Image.fromarray(np.repeat(noise, 3, axis=2))
    view = around([(-20.0, 10.0), (80.0, 70.0)], 0, 1.5).turned(turned, 1.5)
    shown = cut(colour.convert("L"), view, 24, 16)
    assert shown.shape == (16, 24, 1)
    np.testing.assert_allclose(np.repeat(shown, 3, 2), cut(colour, view, 24, 16), atol=1)
