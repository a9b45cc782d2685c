"""A cascade of real networks on photographs whose truth is known."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from compress.cascade.cascade import Cascade
from compress.cascade.spec import CascadeSpec, CascadeStage, Crop
from compress.data.coordinates import to_image
from compress.data.input_spec import load_image
from compress.utils.errors import UserError
from tests.cascade_networks import box, brighter_half, centres

SIZE = 64
CANONICAL = {"red": [0.75, 0.5], "blue": [0.25, 0.5]}
CROP = Crop(around=["top_left", "bottom_right"], margin=0.25)


def photograph(red, blue, green_side, size=(800, 600), mode="RGB", suffix="PNG", **save):
    """Red and blue discs joined by nothing, and a green one on the named side of both."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    image = np.zeros((size[1], size[0], 3), np.uint8)
    length = math.dist(red, blue)
    along = np.subtract(red, blue) / length
    toward = np.array(red) if green_side == "red" else np.array(blue)
    out = along if green_side == "red" else -along
    green = toward + 0.3 * length * out
    for channel, at in ((0, red), (2, blue), (1, green)):
        image[..., channel][np.hypot(x - at[0], y - at[1]) < 0.12 * length] = 255
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, suffix, **save)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    box(tmp_path / "box.onnx", SIZE, half=0.2)
    centres(tmp_path / "points.onnx", SIZE, {"red": (1, -1, -1), "blue": (-1, -1, 1)})
    brighter_half(tmp_path / "names.onnx", SIZE, ("blue side", "red side"))
    CascadeSpec(
        stages=(
            CascadeStage(name="localizer", model="box.onnx"),
            CascadeStage(name="aligner", model="points.onnx", crop=CROP),
            CascadeStage(name="classifier", model="names.onnx", warp=CANONICAL),
        )
    ).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("side", ["red", "blue"])
@pytest.mark.parametrize("angle", [0.0, 1.1, 3.0, 4.6])
def test_it_finds_turns_and_names(folder, side, angle):
    middle, arm = np.array([420.0, 310.0]), 45 * np.array([math.cos(angle), math.sin(angle)])
    cascade = Cascade.load(folder, threads=1)
    found = cascade.find(photograph(tuple(middle + arm), tuple(middle - arm), side))
    assert found.points["red"] == pytest.approx(middle + arm, abs=3)
    assert found.points["blue"] == pytest.approx(middle - arm, abs=3)
    assert cascade.name(found) == f"{side} side"
    assert found.probabilities.sum() == pytest.approx(1)
    assert list(found.seconds) == [
        "decode",
        "localizer: look", "localizer: network",
        "aligner: look", "aligner: network",
        "classifier: look", "classifier: network",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(300, 120), (90, 400), (64, 64)])
def test_a_letterbox_is_seen_as_in_training(tmp_path, size):
    centres(tmp_path / "points.onnx", SIZE, {"red": (1, 0, 0), "green": (0, 1, 0)}, "letterbox")
    CascadeSpec(stages=(CascadeStage(name="finder", model="points.onnx"),)).save(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    noise[: size[1] // 3, : size[0] // 4, :2] = 255
    Image.fromarray(noise).save(tmp_path / "x.png")
    cascade = Cascade.load(tmp_path, threads=1)
    (network,) = cascade.networks
    outputs = network.outputs(load_image(tmp_path / "x.png", network.spec)[None])
    expected = to_image(outputs.reshape(1, 2, 2), np.array([size]), network.spec)[0]
    found = cascade.find((tmp_path / "x.png").read_bytes())
    assert found.points["red"] == pytest.approx(expected[0], abs=1e-3)
    assert found.points["green"] == pytest.approx(expected[1], abs=1e-3)


def test_turns_of_the_aligners_view_agree(folder):
    one = CascadeSpec.load(folder)
    stages = [s.model_copy(update={"turns": 4 if s.name == "aligner" else 1}) for s in one.stages]
    image = photograph((450, 330), (390, 300), "red")
    before = Cascade.load(folder, threads=1).find(image)
    one.model_copy(update={"stages": tuple(stages)}).save(folder)
    after = Cascade.load(folder, threads=1).find(image)
    assert after.points["red"] == pytest.approx(before.points["red"], abs=2)
    assert after.points["blue"] == pytest.approx(before.points["blue"], abs=2)


def test_no_name_is_given_when_the_last_stage_is_not_sure(folder):
    spec = CascadeSpec.load(folder)
    spec.model_copy(update={"min_probability": 0.9999999}).save(folder)
    cascade = Cascade.load(folder, threads=1)
    empty = io.BytesIO()
    Image.new("RGB", (300, 200)).save(empty, "JPEG")
    found = cascade.find(empty.getvalue())
    assert cascade.name(found) is None
    assert found.probabilities == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("mode", "suffix", "save"),
    [
        ("L", "PNG", {}),
        ("CMYK", "JPEG", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("I;16", "PNG", {}),
        ("1", "PNG", {}),
    ],
)
def test_images_of_every_kind_are_read(folder, mode, suffix, save):
    file = io.BytesIO()
    grey = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (150, 1)))
    if mode == "I;16":
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(file, suffix)
    else:
        grey.convert("RGB").convert(mode).save(file, suffix, **save)
    found = Cascade.load(folder, threads=1).find(file.getvalue())
    # The centre of mass of a ramp lies at two thirds of it: nothing was clipped to white.
    x = (found.points["top_left"][0] + found.points["bottom_right"][0]) / 2
    if mode != "1":
        assert x / 200 == pytest.approx(2 / 3, abs=0.02)


def test_a_photograph_is_turned_upright(folder):
    image = photograph((500, 300), (420, 300), "red", suffix="JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right to see it upright
    turned = io.BytesIO()
    with Image.open(io.BytesIO(image)) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", exif=exif, quality=95)
    found = Cascade.load(folder, threads=1).find(turned.getvalue())
    assert found.size == (800, 600)
    assert found.points["red"] == pytest.approx((500, 300), abs=3)


@pytest.mark.parametrize("size", [(1, 1), (12_000, 8_400)])
def test_one_pixel_and_a_hundred_megapixels(folder, size):
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "PNG", compress_level=1)
    found = Cascade.load(folder, threads=1).find(file.getvalue())
    assert found.size == size
    assert all(map(math.isfinite, found.points["red"]))


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_what_is_no_image_is_said(folder, data):
    with pytest.raises(UserError, match="photograph cannot be read"):
        Cascade.load(folder, threads=1).find(data)


def test_faults_of_a_folder_are_said(folder):
    with pytest.raises(UserError, match=r"holds no pipeline\.json"):
        CascadeSpec.load(folder / "nowhere")
    (folder / "points.onnx").unlink()
    with pytest.raises(UserError, match=r"aligner's model points\.onnx is not in"):
        Cascade.load(folder, threads=1)
    outside = {"stages": [{"name": "a", "model": "../a.onnx"}]}
    (folder / "pipeline.json").write_text(json.dumps(outside))
    with pytest.raises(UserError, match="outside"):
        CascadeSpec.load(folder)
    twice = {"stages": [{"name": "a", "model": "box.onnx"}] * 2}
    (folder / "pipeline.json").write_text(json.dumps(twice))
    with pytest.raises(UserError, match="two stages are called a"):
        CascadeSpec.load(folder)


def test_a_folder_of_the_first_layout_is_read(folder):
    now = CascadeSpec.load(folder)
    turned = now.stages[1].model_copy(update={"turns": 4, "runtime": "onnxruntime"})
    now = now.model_copy(update={"stages": (now.stages[0], turned, now.stages[2])})
    box_corners = ["top_left", "bottom_right"]
    aligner = {"name": "aligner", "model": "points.onnx", "runtime": "onnxruntime", "turns": 4}
    stages = [
        {"name": "localizer", "model": "box.onnx"},
        aligner | {"look": {"crop": {"around": box_corners}}},
        {"name": "classifier", "model": "names.onnx", "look": {"warp": CANONICAL}},
    ]
    (folder / "pipeline.json").write_text(json.dumps({"stages": stages}))
    assert CascadeSpec.load(folder) == now
    Cascade.load(folder, threads=1)
    stages[1]["look"]["margin"] = 0.5
    (folder / "pipeline.json").write_text(json.dumps({"stages": stages}))
    with pytest.raises(UserError, match=r"stages\.1\.margin: Extra inputs"):
        CascadeSpec.load(folder)


def test_a_stage_needs_what_was_found_before(folder):
    stages = (CascadeStage(name="aligner", model="points.onnx", crop=CROP),)
    CascadeSpec(stages=stages).save(folder)
    with pytest.raises(UserError, match="aligner looks at top_left, bottom_right, which no stage"):
        Cascade.load(folder, threads=1)
    naming = CascadeStage(name="classifier", model="names.onnx")
    CascadeSpec(stages=(naming, CascadeStage(name="localizer", model="box.onnx"))).save(folder)
    with pytest.raises(UserError, match="put it last"):
        Cascade.load(folder, threads=1)
