"""Views: where a network looks, against marked pixels and independent algebra."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compress.cascade.views import View, around, brought_to, cut, whole
from compress.data.input_spec import InputSpec, load_image

pixels = st.floats(-500, 3000)
points = st.tuples(pixels, pixels)
fractions = st.tuples(st.floats(0, 1), st.floats(0, 1))
aspects = st.floats(0.3, 3)
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


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("size", [(640, 427), (300, 500), (64, 64)])
def test_the_whole_photograph_is_seen_as_in_training(tmp_path, fit, size):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    spec = InputSpec(height=64, width=96, mean=(0, 0, 0), std=(1, 1, 1), fit=fit)
    shown = cut(Image.fromarray(noise), whole(size, spec), 96, 64)
    trained = load_image(tmp_path / "x.png", spec)
    assert np.abs(shown.astype(int) - trained).max() <= 1


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
