"""The weights in teachers/weights answer as the report says that tells of them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from compress.data.input_spec import InputSpec, load_image, normalise
from compress.recipe.load import load_recipe
from compress.results.file import read
from teachers.vgg_pooled import PooledVGG, vgg16_bn

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "teachers" / "weights" / "vgg16_right_whales.safetensors"
RECIPE = ROOT / "recipes" / "right_whales" / "teacher.yaml"
TEACHER = ROOT / "recipes" / "teachers" / "vgg16_right_whales.yaml"
REPORT = ROOT / "reports" / "right_whales" / "teacher"
LARGEST_BYTES = 32_000_000


def kept() -> tuple[PooledVGG, InputSpec]:
    """The network with its weights, and what it takes."""
    with safe_open(WEIGHTS, "pt") as file:
        spec = InputSpec.model_validate_json(file.metadata()["spec"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    network = vgg16_bn(len(spec.classes))
    network.load_state_dict(tensors)
    return network.eval(), spec


def test_they_fit_and_say_what_they_take() -> None:
    _, spec = kept()
    assert WEIGHTS.stat().st_size <= LARGEST_BYTES
    teacher = yaml.safe_load(TEACHER.read_text("utf-8"))
    assert spec.size == (teacher["image_size"],) * 2 and len(spec.classes) == 447
    assert teacher["mean"] == list(spec.mean) and teacher["std"] == list(spec.std)
    assert (TEACHER.parent / teacher["weights"]).resolve() == WEIGHTS


@pytest.mark.slow
def test_they_are_as_right_as_the_report_says() -> None:
    folder = Path(load_recipe(RECIPE).data.path or "")
    if not folder.is_dir():
        pytest.skip("the images that the report is of are not here (../shared/data)")
    network, spec = kept()
    with (folder / "split.csv").open(encoding="utf-8") as file:
        judged = {x["Image"] for x in csv.DictReader(file) if x["split"] == "validation"}
    with (folder / "train.csv").open(encoding="utf-8") as file:
        rows = [x for x in csv.DictReader(file) if x["Image"] in judged]
    images = np.stack([load_image(folder / "imgs" / x["Image"], spec) for x in rows])
    with torch.no_grad():
        parts = [network(torch.from_numpy(normalise(x, spec))) for x in np.array_split(images, 13)]
    said = torch.cat(parts).argmax(1)
    right = np.mean([spec.classes[i] == x["whaleID"] for i, x in zip(said, rows, strict=True)])
    told = next(x for x in read(REPORT).rows if x.candidate == "vgg16").accuracy
    # Rounded to bfloat16, a few answers change whose best two are next to equal.
    assert len(rows) == told.images and abs(right - told.top1.value) < 0.01
