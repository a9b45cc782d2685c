"""What a network is fed: in grey, blue first, and of any height and width."""

import json
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from compress.data.coordinates import upright_size
from compress.data.image_cache import Decoded
from compress.data.input_spec import Channels, Fit, InputSpec, load_image, normalise, preprocess
from compress.data.layouts import read_folder
from compress.training.augmentation import normalise_pixels, to_pixels

SCALES: dict[Channels, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "rgb": ((0.2, 0.4, 0.6), (0.2, 0.3, 0.4)),
    "bgr": ((0.6, 0.4, 0.2), (0.4, 0.3, 0.2)),
    "grey": ((0.4,), (0.3,)),
}


def spec_of(
    channels: Channels = "rgb", height: int = 24, width: int = 40, fit: Fit = "crop"
) -> InputSpec:
    mean, std = SCALES[channels]
    return InputSpec(
        height=height, width=width, mean=mean, std=std, fit=fit, channels=channels, classes=("a",)
    )


def test_what_is_written_of_rgb_is_what_it_always_was() -> None:
    spec = InputSpec(height=8, width=8, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), classes=("a", "b"))
    written = (
        '{"height":8,"width":8,"mean":[0.1,0.2,0.3],"std":[1.0,1.0,1.0],"fit":"crop",'
        '"classes":["a","b"],"points":[]}'
    )
    assert spec.model_dump_json() == written
    assert InputSpec.model_validate_json(written) == spec
    for channels in ("bgr", "grey"):
        text = spec_of(channels).model_dump_json()
        assert json.loads(text)["channels"] == channels
        assert InputSpec.model_validate_json(text) == spec_of(channels)


@pytest.mark.parametrize(
    ("channels", "count", "said"),
    [("grey", 3, "grey need 1 number in mean"), ("bgr", 1, "bgr need 3 numbers in mean")],
)
def test_a_number_for_each_channel(channels: Channels, count: int, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InputSpec(height=8, width=8, mean=(0,) * count, std=(1,) * count, channels=channels)


def test_another_size_of_the_same_input() -> None:
    spec = spec_of("grey")
    assert spec.shape == (1, 24, 40) and spec.at(32).shape == (1, 32, 32)
    assert spec.at([16, 48]).size == (16, 48) and spec.at([16, 48]).mean == spec.mean


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_grey_is_what_pillow_makes_of_any_mode(mode: str, fit: Fit, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    image.save(tmp_path / "a.png")
    read = load_image(tmp_path / "a.png", spec_of("grey", fit=fit))
    np.testing.assert_array_equal(read[..., 0], np.asarray(image.convert("L")))
    read = load_image(tmp_path / "a.png", spec_of("grey", 40, 40, fit))
    assert read.shape == (40, 40, 1) and (read[0] == 114).all() == (fit == "letterbox")


@pytest.mark.parametrize(
    "values",
    [np.uint16(257), np.int32(1 << 12), np.float32(1 / 255)],
    ids=["16 bits", "20 of 32 bits", "floats"],
)
def test_deep_grey_images_are_scaled_by_their_range(values: np.generic, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 4), (16, 1))
    Image.fromarray((ramp * values).astype(values.dtype)).save(tmp_path / "a.tif")
    read = load_image(tmp_path / "a.tif", spec_of("grey", 16, 64))
    np.testing.assert_array_equal(read[..., 0], ramp)


@pytest.mark.parametrize("channels", list(SCALES))
@given(seed=st.integers(0, 1000))
def test_training_and_deployment_feed_the_same(channels: Channels, seed: int) -> None:
    spec = spec_of(channels, 5, 7)
    count, height, width = spec.shape
    images = np.random.default_rng(seed).integers(0, 256, (3, height, width, count), np.uint8)
    fed = normalise(images, spec)
    here = normalise_pixels(to_pixels(images, torch.device("cpu")), spec)
    np.testing.assert_allclose(here.numpy(), fed, atol=1e-5)
    ordered = images[..., ::-1] if channels == "bgr" else images
    by_hand = (ordered / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(fed, by_hand.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("channels", list(SCALES))
def test_pixels_of_any_shape_are_what_deployment_sees(
    channels: Channels, shapes: Path, tmp_path: Path
) -> None:
    data, spec = read_folder(shapes), spec_of(channels)
    stored = Decoded(data, tmp_path)(spec)
    count, height, width = spec.shape
    assert stored.shape == (len(data.images), height, width, count)
    chosen = np.array([0, 5, 20])
    np.testing.assert_array_equal(
        normalise(stored[chosen], spec), preprocess(data.paths(chosen), spec)
    )


def test_decoded_squares_in_colour_are_found_where_they_always_were(
    shapes: Path, tmp_path: Path
) -> None:
    data = read_folder(shapes)
    for spec in (spec_of("rgb", 24, 24), spec_of("bgr", 24, 24)):  # blue first is no file's order
        Decoded(data, tmp_path)(spec)
        assert [file.name for file in tmp_path.iterdir()] == ["pixels-v2-24-crop.npy"]
    for spec in (spec_of("grey", 24, 24), spec_of("rgb", 24, 40)):
        Decoded(data, tmp_path)(spec)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("std", [0, -1, 1e-40, math.nan, math.inf])
def test_a_std_that_leaves_no_bounds_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="give numbers, and std above 0"):
        InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(1, std, 1), classes=("a", "b"))


def exif(*tags: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of these tags: number, type, count, and the four bytes of the value or of its place."""
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 4


SIDEWAYS = (0x0112, 3, 1, b"\x06\0\0\0")
TEXT_FOR_RATIONAL = (0x011A, 2, 4, b"abc\0")  # x resolution


@pytest.mark.parametrize(
    ("written", "turned"),
    [
        (exif(SIDEWAYS), True),
        (exif(SIDEWAYS, TEXT_FOR_RATIONAL), True),
        (b"Exif\0\0XX*\0\x08\0\0\0", False),
        (b"Exif\0\0II*\0\xff\xff\0\0", False),
    ],
    ids=["right", "text for a rational", "no byte order", "no directory"],
)
def test_exif_that_no_camera_should_have_written(
    written: bytes, turned: bool, tmp_path: Path
) -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))  # the left half; turned, the upper one
    path = tmp_path / "a.jpg"
    image.save(path, exif=written, quality=95)
    assert upright_size(path) == ((20, 40) if turned else (40, 20))
    spec = InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3, fit="stretch")
    white = load_image(path, spec)[..., 0] > 128
    half = np.zeros((8, 8), bool)
    half[(slice(4), slice(None)) if turned else (slice(None), slice(4))] = True
    np.testing.assert_array_equal(white, half)


def png_of_16_bits(path: Path, values: np.ndarray) -> Path:
    """A PNG of uint16 (height, width, 2 to 4), from grey with alpha to RGBA; Pillow writes none."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    kind = {2: 4, 3: 2, 4: 6}[channels]
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_are_read_by_their_upper_ones_or_refused(
    tmp_path: Path, channels: int
) -> None:
    rng = np.random.default_rng(0)
    eight = rng.integers(1, 256, (8, 8, channels)).astype(np.uint16)
    spec = InputSpec(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1), classes=("a", "b"))
    whole = load_image(png_of_16_bits(tmp_path / "whole.png", eight * 257), spec)
    if channels > 2:
        np.testing.assert_array_equal(whole, eight[..., :3])
    twelve = eight * 16
    twelve[..., 3:] = 65535  # as opaque as can be
    twelve[..., 1] = 65535 if channels == 2 else twelve[..., 1]
    with pytest.raises(OSError, match="16 bits, of which it uses the lower 12"):
        load_image(png_of_16_bits(tmp_path / "twelve.png", twelve), spec)
    black = png_of_16_bits(tmp_path / "black.png", np.zeros_like(eight))
    assert load_image(black, spec).max() == 0
