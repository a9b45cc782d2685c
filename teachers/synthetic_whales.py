"""Seeded synthetic right whales, as aligned head crops and as full aerial frames.

Every picture is one function of *whale coordinates*: the complex plane in which the blowhead lies
at 0 and the bonnet tip at 1, so that one unit is one head length. A picture is made by saying where
these two points fall on its pixels. A frame and an aligned head crop therefore show the same scene,
and a crop needs no frame to be rendered first.

Everything that can be painted beforehand is a texture (sea, body, callosities), looked up through a
3 x 3 matrix from pixels to texels; only light, water, foam and the camera are computed per picture.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.floating[Any]]
Bands = tuple[Array, Array, Array]
Size = tuple[int, int]  # width, height in pixels
Points = tuple[complex, complex]  # bonnet tip and blowhead in pixels, x + iy
Rng = np.random.Generator

# Where the aligned crop puts the two points, as fractions of its side (x + iy, y down).
BONNET_AT = 0.80 + 0.50j
BLOWHEAD_AT = 0.26 + 0.50j

# Head length in a frame, as a fraction of the frame's longer side.
HEAD_LENGTH = (0.07, 0.12)

_SEA_TEXELS = 40  # per head length; so few that a frame's diagonal stays below _SEA_TILE texels
_SEA_TILE = 1024
_BODY_TEXELS = 64
_BODY_ORIGIN = -6.0 - 2.0j  # whale coordinates of the body texture's first texel
_HEAD_TEXELS = 96
_HEAD_ORIGIN = -0.6 - 0.8j

_WATERS = np.array(  # RGB in 0..1, sampled by eye: teal, blue, dark green, grey, dark brown, deep
    [[0.17, 0.29, 0.31], [0.21, 0.32, 0.41], [0.09, 0.16, 0.16], [0.36, 0.38, 0.38],
     [0.17, 0.17, 0.15], [0.13, 0.20, 0.26]], np.float32)  # fmt: skip
_SKIN = np.array([0.20, 0.18, 0.19], np.float32)
_SKY = np.array([0.62, 0.60, 0.66], np.float32)
_CALLOSITY = np.array([1.0, 0.95, 0.87], np.float32)
_RUST = np.array([1.0, 0.66, 0.42], np.float32)
_FOAM = np.array([0.97, 0.99, 1.0], np.float32)


class Conditions:
    """What differs between two pictures of one whale. Lengths are in head lengths."""

    def __init__(self, rng: Rng) -> None:
        u, n = rng.uniform, rng.normal
        self.heading = u(0, 2 * np.pi)  # radians, 0 = bonnet to the right
        self.head_length = u()  # 0..1 within HEAD_LENGTH
        self.place = complex(u(), u())  # 0..1 across, i times down the room that the frame leaves
        self.jitter = (complex(*n(0, 0.02, 2)), complex(*n(0, 0.02, 2)))  # of a crop's points
        self.roll = float(np.clip(n(0, 0.28), -0.5, 0.5))  # perspective across, 1 / head length
        self.slimness = u(0.67, 1.05)  # foreshortening across, 1 = seen from straight above
        self.shear = n(0, 0.14)  # head turned against the axis
        self.depth = float(np.clip(n(0.06, 0.14), -0.2, 0.4))  # of the blowhead, < 0 = surfaced
        self.murk = u(1.5, 5.0)  # attenuation, 1 / head length
        self.water = _WATERS[rng.integers(len(_WATERS))] * _tint(rng, 0.8, 1.2)
        self.swell = u(0.03, 0.15)  # contrast of the waves
        self.wind = _turn(u(0, 2 * np.pi)) * u(0.7, 1.2)  # direction of waves, how short they are
        self.sea_place = complex(u(), u())  # 0..1 across, i times down the sea tile
        self.glint = u(1.2, 4.5)  # threshold in standard deviations; lower = more
        self.foam = u() ** 0.7  # 0..1 along the waterline
        self.splashes = [
            (complex(u(-0.9, 0.9), rng.choice([-1, 1]) * u(0.15, 0.8)), u(0.1, 0.4))
            for _ in range(rng.integers(0, 6))
        ]  # centre and radius
        self.blow = complex(u(-0.4, 0.8), u(-0.9, 0.9))  # reach of the spray from the blowhead
        self.blow_opacity = max(0.0, u(-1.5, 0.9))
        self.sun = _turn(u(0, 2 * np.pi)) * u(0, 0.8)  # direction and strength
        self.light = _tint(rng, 0.75, 1.45)  # gain in RGB
        self.sheen = u(0, 0.25)  # sky mirrored in the wet skin, 0..1
        self.gamma = u(0.8, 1.2)
        self.haze = max(0.0, u(-0.2, 0.4))  # 0..1
        self.blur = u(0.008, 0.016) + 0.035 * u() ** 6  # standard deviation
        self.grain = u(0.005, 0.025)  # standard deviation, 0..1
        self.quality = int(rng.integers(70, 93))  # JPEG


def heads(
    folder: Path,
    *,
    individuals: int = 40,
    pictures: int = 1200,
    unlabelled: int = 400,
    size: int = 96,
    seed: int = 0,
) -> None:
    """Writes a data set of aligned head crops (size x size JPEG): train.csv and imgs/.

    `pictures` are labelled; `unlabelled` more of the same individuals are only in imgs/.
    """
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")
    owners = _owners(individuals, pictures, unlabelled, seed)
    _write_pictures(folder, owners, (size, size), lambda c: _points_in_crop(c, size), seed)
    _write_table(folder / "train.csv", "", owners[:pictures], [()] * pictures)


def frames(
    folder: Path,
    *,
    individuals: int = 40,
    pictures: int = 400,
    unlabelled: int = 0,
    width: int = 640,
    height: int = 427,
    seed: int = 0,
) -> None:
    """Writes full frames (width x height JPEG); picture i shows the same individual in the same
    conditions as head i of the same settings.

    Besides train.csv and imgs/ there are head_boxes.csv and train_with_points.csv, in pixels.
    """
    if min(width, height) < max(64, 0.4 * max(width, height)):
        raise ValueError(f"a frame of {width} x {height} is too small or too narrow for a whale")
    owners = _owners(individuals, pictures, unlabelled, seed)
    size = (width, height)
    placed = _write_pictures(folder, owners, size, lambda c: _points_in_frame(c, size), seed)
    boxes = [_head_box(points) for points in placed[:pictures]]
    ends = [(tip.real, tip.imag, blowhead.real, blowhead.imag) for tip, blowhead in placed]
    columns = "bonnet_tip_x bonnet_tip_y blowhead_x blowhead_y"
    _write_table(folder / "train.csv", "", owners[:pictures], [()] * pictures)
    _write_table(folder / "head_boxes.csv", "x y width height", owners[:pictures], boxes)
    _write_table(folder / "train_with_points.csv", columns, owners[:pictures], ends[:pictures])


# Files


def _name(number: int) -> str:
    return f"w_{number:05d}.jpg"


def _write_pictures(
    folder: Path, owners: list[int], size: Size, place: Callable[[Conditions], Points], seed: int
) -> list[Points]:
    """Writes one picture for each owner and returns where bonnet tip and blowhead lie in it."""
    (folder / "imgs").mkdir(parents=True, exist_ok=True)
    placed = []
    for number, owner in enumerate(owners):
        rng = _rng(seed, 1, number)
        conditions = Conditions(rng)
        placed.append(place(conditions))
        photo = _photograph(_callosity_texture(owner, seed), conditions, placed[-1], size, rng)
        photo.save(folder / "imgs" / _name(number), quality=conditions.quality)
    return placed


def _write_table(
    path: Path, columns: str, owners: Sequence[int], rows: Sequence[tuple[float, ...]]
) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Image", "whaleID", *columns.split()])
        for number, (owner, row) in enumerate(zip(owners, rows, strict=True)):
            writer.writerow([_name(number), f"whale_{owner:05d}", *(f"{x:.2f}" for x in row)])


# Who is in which picture, and how


def _rng(*key: int) -> Rng:
    return np.random.default_rng(np.random.SeedSequence(key))


def _turn(angle: float) -> complex:
    return complex(np.cos(angle), np.sin(angle))


def _owners(individuals: int, pictures: int, unlabelled: int, seed: int) -> list[int]:
    """The individual in each picture, labelled ones first: long-tailed, a tenth of the individuals
    (at least one, where there are two) with exactly one labelled picture."""
    if individuals < 1 or pictures < individuals:
        raise ValueError(f"{pictures} pictures cannot show {individuals} individuals")
    if unlabelled < 0 or seed < 0:
        raise ValueError(f"unlabelled ({unlabelled}) and seed ({seed}) must not be negative")
    rng = _rng(seed, 0, individuals, pictures)
    once = max(1, individuals // 10) if individuals > 1 else 0
    popularity = 1 / (np.arange(individuals - once) + 6.0)
    shares = np.cumsum(popularity) / popularity.sum()
    counts = np.ones(individuals, int)
    upto = np.rint(shares * (pictures - individuals)).astype(int)
    counts[: len(upto)] += np.diff(upto, prepend=0)
    ranked = rng.permutation(individuals)
    labelled = rng.permutation(np.repeat(ranked, counts))
    rest = rng.choice(ranked, size=unlabelled, p=counts / counts.sum())
    return [int(owner) for owner in np.concatenate([labelled, rest])]


def _tint(rng: Rng, low: float, high: float) -> Array:
    """A gain in RGB between low and high, nearly the same in all three."""
    return (rng.uniform(low, high) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)


def _points_in_crop(c: Conditions, size: int) -> Points:
    """Bonnet tip and blowhead in pixels, nearly where an aligned crop should have them."""
    return (BONNET_AT + c.jitter[0]) * size, (BLOWHEAD_AT + c.jitter[1]) * size


def _points_in_frame(c: Conditions, size: Size) -> Points:
    """Bonnet tip and blowhead in pixels, the head box wholly inside the frame."""
    shortest, longest = HEAD_LENGTH
    along = max(size) * (shortest + (longest - shortest) * c.head_length) * _turn(c.heading)
    x, y, width, height = _head_box((along, 0))
    room = complex(c.place.real * (size[0] - width), c.place.imag * (size[1] - height))
    blowhead = room - complex(x, y)
    return blowhead + along, blowhead


def _head_box(points: Points) -> tuple[float, ...]:
    """x, y, width, height in pixels of the upright box round the head."""
    corners = np.array([-0.3 - 0.6j, -0.3 + 0.6j, 0.9 - 0.5j, 0.9 + 0.5j, 1.2 - 0.2j, 1.2 + 0.2j])
    pixels = points[1] + corners * (points[0] - points[1])
    x, y = pixels.real, pixels.imag
    return float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))


# Textures


def _step(values: Array, low: float, high: float) -> Array:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _noise(rng: Rng, shape: tuple[int, int], wave: float, tail: float, along: float = 0) -> Array:
    """Periodic noise, mean 0 and deviation 1: strongest at waves `wave` pixels long, falling with
    the power `tail` towards shorter ones, running along x the more the higher `along`."""
    ky = np.fft.fftfreq(shape[0])[:, None]
    kx = np.fft.rfftfreq(shape[1])[None, :]
    k = np.hypot(kx, ky) * wave
    k[0, 0] = np.inf
    power = k**-tail * np.exp(-(k**-2)) * (kx * wave / k) ** along
    power[0, 0] = 0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * power, s=shape)
    return (field / field.std()).astype(np.float32)


def _texture(*bands: Array) -> Image.Image:
    """Three bands with values 0..1 as a picture."""
    stacked = np.clip(np.stack(bands, -1), 0, 1)
    return Image.fromarray(np.rint(stacked * 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _sea_texture() -> Image.Image:
    """Bands: waves, ripples, clouds, as 0.5 + noise / 8. Twice the tile either way, so that a
    look-up may start anywhere in the first one."""
    rng, shape = _rng(0, 2), (_SEA_TILE, _SEA_TILE)
    waves = _noise(rng, shape, 24, 2.2, 2.0)
    waves = waves + 0.35 * (waves**2 - 1)  # water has sharper crests than troughs
    bands = waves, _noise(rng, shape, 6, 1.8, 0.7), _noise(rng, shape, 50, 1.7)
    return _texture(*(np.tile(0.5 + band / 8, (2, 2)) for band in bands))


def _plane(origin: complex, texels: int) -> tuple[Array, Array]:
    """Whale coordinates along and across a texture that is symmetric to the axis."""
    u = np.arange(origin.real, 1.6, 1 / texels, dtype=np.float32) + 0.5 / texels
    v = np.arange(origin.imag, -origin.imag, 1 / texels, dtype=np.float32) + 0.5 / texels
    return u[None, :], v[:, None]


@lru_cache(maxsize=1)
def _body_texture() -> Image.Image:
    """Bands: coverage, height over the waterline (0.5 = at it, in head lengths), tone."""
    u, v = _plane(_BODY_ORIGIN, _BODY_TEXELS)
    stations = [-6, -4.5, -3.6, -2.8, -2.2, -1.6, -1, -0.5, 0, 0.4, 0.8, 1, 1.1, 1.15, 1.6]
    widths = [0, 0.2, 0.46, 0.73, 0.88, 0.94, 0.92, 0.83, 0.68, 0.58, 0.52, 0.44, 0.28, 0, -0.5]
    half = np.interp(u, stations, widths)
    body = _step(half - abs(v), -0.02, 0.06)
    fluke = _step(0.4 - 0.25 * abs(v) - abs(u + 5.4 + 0.35 * abs(v)), 0, 0.06) * (abs(v) < 1.1)
    fin = _step(0.22 - abs(u + 0.9 + 0.7 * (abs(v) - 0.7)), 0, 0.06) * (abs(v) < 1.35)
    cover = np.maximum(body, 0.8 * np.maximum(fluke, fin))
    arch = 0.2 * np.sqrt(np.clip(1 - (v / np.maximum(half, 0.05)) ** 2, 0, 1))
    back = np.interp(u, [-6, -4, -2, -0.5, 0.2, 1.2], [-0.3, -0.15, 0.1, 0.08, -0.15, -0.18])
    outside = np.clip(abs(v) - half, 0, 1)
    rostrum = np.interp(u, [-0.4, 0, 0.5, 0.9, 1.0, 1.06], [0.5, 0.28, 0.16, 0.17, 0.12, -0.3])
    top = _step(rostrum - abs(v), -0.05, 0.03) * _step(u, -0.5, 0)
    lip = np.exp(-(((abs(v) - 0.42 + 0.06 * u) / 0.08) ** 2)) * _step(u, -0.1, 0.4) * body
    height = back + arch - 0.6 * outside + 0.16 * top + 0.10 * lip
    mouth = np.exp(-(((rostrum + 0.05 - abs(v)) / 0.03) ** 2)) * _step(u, -0.1, 0.1) * body
    nostrils = np.exp(-(((abs(v) - 0.07 + 0.5 * u) / 0.025) ** 2) - (u / 0.07) ** 2)
    tone = 0.45 + 0.12 * lip - 0.22 * mouth - 0.45 * nostrils + 0.06 * top
    return _texture(
        cover, 0.5 + height, tone + 0.03 * _noise(_rng(0, 3), (v.size, u.size), 20, 1.5)
    )


def _callosities(rng: Rng) -> Iterator[tuple[float, float, float, float]]:
    """The pattern of one individual: blobs as centre and half axes (u, v, along, across)."""
    u, n = rng.uniform, rng.normal
    width = u(0.11, 0.20)
    yield 1.0 - width * 0.8, n(0, 0.015), width * u(0.8, 1.2), width
    if u() < 0.45:  # an unbroken strip behind the bonnet, else islands
        waist = u(0.02, 0.07)
        for place in np.arange(u(0.12, 0.4), 0.8, 0.07):
            yield place, n(0, 0.012), 0.075, waist + u(0, 0.04)
    for _ in range(rng.integers(1, 5)):
        yield u(0.15, 0.75), n(0, 0.05), u(0.03, 0.09), u(0.03, 0.075)
    for side in (-1, 1):
        if u() < 0.75:  # beside the blowhead
            yield n(-0.1, 0.04), side * u(0.08, 0.22), u(0.03, 0.06), u(0.03, 0.09)
        if u() < 0.75:  # chin
            yield u(0.97, 1.06), side * u(0.26, 0.42), u(0.03, 0.08), u(0.05, 0.10)
        for _ in range(rng.integers(0, 3)):  # lip
            along = u(0.3, 0.9)
            yield along, side * (0.45 - 0.06 * along + n(0, 0.02)), u(0.04, 0.16), u(0.03, 0.06)
        if u() < 0.6:  # eyebrow
            yield n(0.0, 0.08), side * u(0.5, 0.6), u(0.03, 0.08), u(0.02, 0.05)


@lru_cache(maxsize=512)
def _callosity_texture(owner: int, seed: int) -> Image.Image:
    """Bands: cover of the callosities, their brightness, and how rusty whale lice make them."""
    rng = _rng(seed, 4, owner)
    u, v = _plane(_HEAD_ORIGIN, _HEAD_TEXELS)
    shape = (v.size, u.size)
    field = np.zeros(shape, np.float32)
    for along, across, length, width in _callosities(rng):
        distance = ((u - along) / length) ** 2 + ((v - across) / width) ** 2
        field = np.maximum(field, 1.2 - 0.7 * np.sqrt(distance))
    ragged = field + 0.09 * _noise(rng, shape, 12, 2.5)
    ragged -= 2.0 * np.exp(-(((abs(v) - 0.07 + 0.5 * u) / 0.035) ** 2) - (u / 0.08) ** 2)
    cover = _step(ragged, 0.35, 0.6)
    warts = 0.08 * _noise(rng, shape, 7, 2.5) + 0.06 * _noise(rng, shape, 40, 2.0)
    bright = rng.uniform(0.7, 0.95) + warts
    rust = rng.uniform(-0.2, 0.2) + 0.2 * _noise(rng, shape, 25, 1.5)
    return _texture(cover, bright, rust)


# Rendering


def _matrix(scale: complex, shift: complex) -> Array:
    """The 3 x 3 matrix of the similarity z -> scale * z + shift."""
    return np.array([[scale.real, -scale.imag, shift.real],
                     [scale.imag, scale.real, shift.imag], [0, 0, 1]])  # fmt: skip


def _look_up(texture: Image.Image, to_texels: Array, size: Size) -> Bands:
    """The texture's three bands (height x width, 0..1) under each pixel; 0 outside of it."""
    data = tuple((to_texels / to_texels[2, 2]).ravel()[:8])
    seen = texture.transform(size, Image.Transform.PERSPECTIVE, data, Image.Resampling.BILINEAR)
    bands = np.asarray(seen, np.float32) / 255
    return bands[..., 0], bands[..., 1], bands[..., 2]


def _photograph(
    callosities: Image.Image, c: Conditions, points: Points, size: Size, rng: Rng
) -> Image.Image:
    """The picture in which bonnet tip and blowhead fall on the given points."""
    bonnet, blowhead = points
    unit = 1 / (bonnet - blowhead)
    to_whale = _matrix(unit, -blowhead * unit)
    waves, ripples, clouds = _sea(c.wind, c.sea_place, to_whale, size)
    _, fizz, froth = _sea(c.wind / abs(c.wind) * 1j, c.sea_place, to_whale, size)

    pose = np.array([[1, c.shear, 0], [0, 1 / c.slimness, 0], [0, c.roll, 1]]) @ to_whale
    on_body = _matrix(_BODY_TEXELS, -_BODY_ORIGIN * _BODY_TEXELS) @ pose
    on_head = _matrix(_HEAD_TEXELS, -_HEAD_ORIGIN * _HEAD_TEXELS) @ pose
    cover, height, tone = _look_up(_body_texture(), on_body, size)
    patch, bright, rust = _look_up(callosities, on_head, size)

    surface = 0.8 * waves + 0.6 * ripples
    picture = c.water * (1 + c.swell * surface + 0.07 * clouds)[..., None]

    # The whale, seen through the water above it, which swallows red first.
    above = (height - 0.5) - c.depth - 0.02 * waves
    seen = cover * np.exp(np.minimum(above, 0) * c.murk)
    relief = height + 0.06 * patch * bright
    right, down = np.gradient(relief, axis=1), np.gradient(relief, axis=0)
    sun = c.sun * (bonnet - blowhead)
    sunlit = 1 + right * sun.real + down * sun.imag
    skin = (2 * tone + 0.08 * ripples)[..., None] * (_SKIN + c.sheen * _SKY)
    crust = bright[..., None] * (_CALLOSITY + rust[..., None] * (_RUST - _CALLOSITY))
    whale = (skin + patch[..., None] * (crust - skin)) * sunlit[..., None]
    picture += np.stack([seen * seen, seen, seen], -1) * (whale - picture)

    # What lies on the water: glints, foam at the waterline, splashes, the blow.
    web = 1.0 - 1.8 * abs(froth) + 0.5 * fizz  # foam gathers in threads
    wet = np.clip(1.0 - 5 * np.maximum(above, 0) * cover, 0.3, 1)
    sparkle = 0.5 * surface + 0.7 * fizz + 0.5 * clouds
    white = 0.9 * _step(sparkle, c.glint, c.glint + 1.2) * wet
    lace = np.exp(-((above / 0.07) ** 2)) * _step(web, 0.0, 1.3)
    white = np.maximum(white, c.foam * lace)
    white = np.maximum(white, _splashes(c, to_whale, size, web))
    picture += white[..., None] * (_FOAM - picture)
    return _develop(picture, c, abs(bonnet - blowhead), rng)


def _sea(turn: complex, place: complex, to_whale: Array, size: Size) -> Bands:
    """Waves, ripples and clouds (mean 0, deviation 1), turned and scaled by `turn`."""
    to_texels = _matrix(turn * _SEA_TEXELS, place * _SEA_TILE) @ to_whale
    corners = to_texels @ [[0, size[0], 0, size[0]], [0, 0, size[1], size[1]], [1, 1, 1, 1]]
    # Whole tiles bring the look-up inside the texture and leave the sea as it is.
    to_texels[:2, 2] -= np.floor(corners[:2].min(axis=1) / _SEA_TILE) * _SEA_TILE
    waves, ripples, clouds = _look_up(_sea_texture(), to_texels, size)
    return (waves - 0.5) * 8, (ripples - 0.5) * 8, (clouds - 0.5) * 8


def _splashes(c: Conditions, to_whale: Array, size: Size, web: Array) -> Array:
    """Opacity (0..1) of broken water and of the blow."""
    x = np.arange(size[0], dtype=np.float32)[None, :] + 0.5
    y = np.arange(size[1], dtype=np.float32)[:, None] + 0.5
    m = to_whale.astype(np.float32)
    u, v = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]
    density = np.full(u.shape, -1.0, np.float32)
    for centre, radius in c.splashes:
        squared = ((u - centre.real) ** 2 / 2 + (v - centre.imag) ** 2) / radius**2
        density = np.maximum(density, 1.2 - squared)
    white = _step(density + 0.5 * web, 0.2, 1.6)
    if c.blow_opacity:
        reach = c.blow
        # How far along the plume (0..1), and how far from its middle line.
        t = np.clip((u * reach.real + v * reach.imag) / abs(reach) ** 2, 0, 1)
        away = (u - t * reach.real) ** 2 + (v - t * reach.imag) ** 2
        white = np.maximum(white, c.blow_opacity * np.exp(-away / (0.06 + 0.2 * t) ** 2))
    return white


def _develop(picture: Array, c: Conditions, head_pixels: float, rng: Rng) -> Image.Image:
    """Light, lens, sensor: linear RGB (height x width x 3, 0..1) to a photograph."""
    picture = np.clip(picture * c.light, 0, 1) ** np.float32(c.gamma)
    picture = picture * (1 - c.haze) + c.haze * _SKY
    grain = rng.standard_normal(picture.shape[:2], dtype=np.float32)
    picture = picture + c.grain * grain[..., None]
    photo = Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
    return photo.filter(ImageFilter.GaussianBlur(c.blur * head_pixels))
