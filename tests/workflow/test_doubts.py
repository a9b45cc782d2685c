"""A teacher that is asked wrongly is doubted as soon as it is judged, a right one never is."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from scipy import stats
from torch import nn

from compress.data.input_spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, normalise
from compress.measure.machine import machine
from compress.metrics.accuracy import score, wilson
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.results.schema import Accuracy
from compress.tasks.classification.task import Classification
from compress.tasks.keypoints.task import Keypoints
from compress.utils.interval import Interval
from compress.utils.progress import Progress
from compress.workflow.cache import Store
from compress.workflow.doubts import (
    CAFFE,
    LEVEL,
    USEFUL,
    USUAL,
    Scores,
    assigned,
    better_order,
    no_better,
    of_feeding,
    of_order,
    scores,
    sortings,
)
from compress.workflow.executors.local import run_stage
from compress.workflow.plan import files_of, in_order, make_plan
from compress.workflow.run import context_of, run_recipe
from compress.workflow.stages import doubts
from tests.conftest import tiny_recipe

COLOURS = {
    "blue": (50, 70, 220), "green": (40, 200, 60), "red": (220, 40, 40), "white": (235, 235, 235),
}  # fmt: skip
CLASSES = tuple(COLOURS)
EACH = 20
IMAGENET = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
Told = Callable[..., list[str]]


def blob(colour: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    image = rng.integers(90, 140, (32, 32, 3), dtype=np.uint8)
    y, x = rng.integers(2, 16, 2)
    image[y : y + 14, x : x + 14] = colour
    return image


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four class folders, named after the colour of what is in their images."""
    root, rng = tmp_path_factory.mktemp("data") / "blobs", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(EACH):
            Image.fromarray(blob(colour, rng)).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    """A network that names the colours, fed as ImageNet's are. Nothing in it is padded, so that a
    change of the first layer is exactly a change of what it is fed."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 12, 5, 3), nn.ReLU(), nn.Conv2d(12, 16, 3, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 4),
    )  # fmt: skip
    rng, optimizer = np.random.default_rng(1), torch.optim.AdamW(made.parameters(), 3e-3)
    for _ in range(60):
        labels = rng.integers(0, 4, 32)
        images = np.stack([blob(COLOURS[CLASSES[k]], rng) for k in labels])
        loss = nn.functional.cross_entropy(made(fed(images)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.eval()


def fed(images: np.ndarray) -> torch.Tensor:
    scaled = (images / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def first(net: nn.Sequential) -> nn.Conv2d:
    layer = net[0]
    assert isinstance(layer, nn.Conv2d)
    return layer


def of_classes(net: nn.Sequential, order: list[int]) -> nn.Sequential:
    """The same network; its k-th output is what had the number order[k]."""
    changed = copy.deepcopy(net)
    last = changed[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]
    return changed


@torch.no_grad()
def of_feed(
    net: nn.Sequential, mean: tuple[float, ...], std: tuple[float, ...], blue_first: bool = False
) -> nn.Sequential:
    """The same network for images that are fed otherwise; mean and std are of red, green, blue."""
    changed = copy.deepcopy(net)
    layer = first(changed)
    assert layer.bias is not None
    scale = torch.tensor(std) / torch.tensor(IMAGENET_STD)
    shift = (torch.tensor(mean) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    layer.bias += (layer.weight * shift[:, None, None]).sum((1, 2, 3))
    layer.weight *= scale[:, None, None]
    if blue_first:
        layer.weight.copy_(layer.weight.flip(1))
    return changed


def recipe_of(net: nn.Sequential, data: Path, folder: Path, **teacher: Any) -> dict[str, Any]:
    torch.onnx.export(
        net, (torch.zeros(1, 3, 32, 32),), folder / "net.onnx", dynamo=False, opset_version=13,
        input_names=["x"], dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    recipe = tiny_recipe(data)
    recipe["teacher"] = {"onnx": "net.onnx", "image_size": 32, **teacher}
    distil = recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]
    distil |= {"control": False, "train": {"epochs": 1, "batch_size": 8}}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    return recipe


@pytest.fixture
def told(blobs: Path, tmp_path: Path) -> Told:
    """Gives what a run says of a teacher that is judged."""

    def ask(net: nn.Sequential, **teacher: Any) -> list[str]:
        path = tmp_path / "colours.yaml"
        path.write_text(yaml.safe_dump(recipe_of(net, blobs, tmp_path, **teacher)))
        return judged(load_recipe(path), tmp_path)

    return ask


def judged(recipe: Recipe, out: Path) -> list[str]:
    here, progress = machine(), Progress(Console(quiet=True))
    stage = make_plan(recipe, here, 1).entries[0].doubts
    assert stage is not None
    context = context_of(recipe, out, here, 1, progress, (), files_of(recipe))
    store, needed = Store(out / "stages"), list(in_order([stage]))
    with progress.tree({each.key: each.title for each in needed}):
        for each in needed:
            run_stage(each, store, context)
    return doubts.load(store.folder(stage))


def figures(doubt: str) -> list[float]:
    return [float(x) for x in re.findall(r"([0-9.]+)%", doubt)]


def test_the_right_one_is_not_doubted(net: nn.Sequential, told: Told) -> None:
    assert told(net, **IMAGENET) == []


def test_classes_in_another_order_are_told(net: nn.Sequential, told: Told) -> None:
    guessing, order = told(of_classes(net, [2, 0, 3, 1]), **IMAGENET)
    assert guessing.startswith("The teacher seems no better than always naming the commonest class")
    assert figures(guessing) == [0.0, 25.0]
    assert figures(order) == [0.0, 100.0]
    assert "if its outputs were red, blue, white, green. " in order


FEEDINGS = {
    "normalised with ImageNet's mean and std, blue first": (IMAGENET_MEAN, IMAGENET_STD, True),
    "scaled to [-1, 1]": ((0.5,) * 3, (0.5,) * 3, False),
    "bytes from 0 to 255": ((0.0,) * 3, (1 / 255,) * 3, False),
    "bytes less Caffe's means, blue first": (CAFFE, (1 / 255,) * 3, True),
}


@pytest.mark.parametrize("said", FEEDINGS)
def test_what_it_was_fed_is_told(net: nn.Sequential, told: Told, said: str) -> None:
    mean, std, blue_first = FEEDINGS[said]
    asked = IMAGENET if said != "scaled to [-1, 1]" else {"mean": [0, 0, 0], "std": [1 / 255] * 3}
    doubt = told(of_feed(net, mean, std, blue_first), **asked)[-1]
    now, otherwise = figures(doubt)
    assert now <= 60 and otherwise == 100.0
    assert "of 64 labelled images" in doubt
    ways = dict(re.findall(r"(?:are|or) ([^()]+) \((channels: .*?])\)", doubt))
    written = yaml.safe_load(f"{{{ways[said]}}}")
    assert written["channels"] == ("bgr" if blue_first else "rgb")
    step = -1 if blue_first else 1
    assert written["mean"] == pytest.approx(list(mean)[::step], abs=1e-5)
    assert written["std"] == pytest.approx(list(std)[::step], rel=1e-4)


def test_it_is_said_before_a_student_is_trained_and_again(
    net: nn.Sequential, blobs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "colours.yaml"
    wrong = of_classes(net, [1, 2, 3, 0])
    path.write_text(yaml.safe_dump(recipe_of(wrong, blobs, tmp_path, **IMAGENET)))
    for student in ("running", "reused"):
        with (tmp_path / "said.txt").open("w") as file:
            progress = Progress(Console(file=file, width=1000))
            results, _ = run_recipe(load_recipe(path), tmp_path, progress, "")
        said = (tmp_path / "said.txt").read_text()
        (doubt,) = (x for x in results[0].notes if "classes in another order" in x)
        assert figures(doubt) == [0.0, 100.0]
        assert said.index(doubt) < said.index(f"shufflenet_v2_x0_5: distill: {student}")
        assert not any("seems" in note for row in results[1:] for note in row.notes)


def test_a_teacher_trained_here_is_fed_right_by_construction(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(shapes)
    here = load_recipe(write_recipe(recipe))
    stage = make_plan(here, machine(), 1).entries[0].doubts
    assert stage is not None and stage.settings["given"] is False
    assert [entry.doubts for entry in make_plan(here, machine(), 1).entries[1:]] == [None] * 3


# Guessing


def accuracy(right: int, images: int) -> Accuracy:
    correct = "1" * right + "0" * (images - right)
    return Accuracy(images=images, top1=wilson(right, images), correct=correct)


def test_a_bound_is_no_fact() -> None:
    assert not no_better(accuracy(5, 5), 0.6)
    assert not no_better(accuracy(3, 5), 0.6)
    assert no_better(accuracy(8, 48), 1 / 12)  # two of twelve classes at their place
    assert no_better(accuracy(0, 30), 0.25)
    assert not no_better(accuracy(60, 100), 0.5) and no_better(accuracy(50, 100), 0.5)
    assert not no_better(accuracy(10, 10), 1.0) and not no_better(accuracy(9, 10), 1.0)


@settings(max_examples=30)
@given(images=st.integers(5, 50), share=st.floats(0.01, 0.9), more=st.floats(0, 1))
def test_a_useful_teacher_is_doubted_once_in_a_hundred(
    images: int, share: float, more: float
) -> None:
    useful = share + USEFUL * (1 - share)
    chance = useful + more * (1 - useful)
    doubted = [x for x in range(images + 1) if no_better(accuracy(x, images), share)]
    assert stats.binom.pmf(doubted, images, chance).sum() < LEVEL + 1e-9


def test_where_an_answer_is_more_than_right_or_wrong_its_interval_counts() -> None:
    def scored(low: float, high: float) -> Accuracy:
        bounds = Interval(value=(low + high) / 2, low=low, high=high)
        return Accuracy(images=9, top1=bounds, correct="", records=[0.5] * 9)

    assert no_better(scored(0.1, 0.3), 0.2)
    assert not no_better(scored(0.1, 0.9), 0.2) and not no_better(scored(0.3, 0.4), 0.2)


# The order of classes


def test_a_right_teacher_on_few_images_is_doubted_in_less_than_one_case_in_a_hundred() -> None:
    rng, cases, doubted = np.random.default_rng(0), 1000, 0
    for _ in range(cases):
        images, count = rng.integers(5, 51), rng.integers(2, 13)
        targets = np.concatenate([np.arange(count), rng.integers(0, count, 50)])[:images]
        right = rng.random(len(targets)) < rng.uniform(0.6, 1)
        # Mistakes are alike: each class is mostly taken for the same other one.
        answers = np.where(right, targets, (targets + 1) % count)
        names = tuple(map(str, range(count)))
        share = np.bincount(targets).max() / len(targets)
        scored = score(np.eye(count)[answers], targets)
        spec = InputSpec(height=8, width=8, mean=(0,) * 3, std=(1,) * 3, classes=names)
        said = list(of_order(scored, targets, spec, share))
        doubted += bool(said) or no_better(scored, share)
    assert doubted < cases / 100


def test_numbers_sorted_as_text_are_told_where_no_class_has_two_images() -> None:
    names = tuple(map(str, range(20)))
    as_text = sorted(names)
    targets = np.arange(20)
    answers = np.array([as_text.index(name) for name in names])
    assert better_order(answers, targets, names, 0.05) == tuple(as_text)
    assert as_text == list(next(sortings(names)))
    assert ("c2", "c10") in [*sortings(("c10", "c2"))]
    # Any other order cannot be told by one image of each class.
    assert better_order(np.roll(np.arange(20), 3), targets, names, 0.05) is None


@given(st.integers(0, 10**6))
def test_any_order_is_found_and_what_no_image_tells_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 9))
    order = rng.permutation(count)  # the output k is the class order[k]
    targets = np.repeat(np.arange(count), 6)
    answers = np.argsort(order)[targets]
    names = tuple(f"c{k}" for k in range(count))
    found = better_order(answers, targets, names, 1 / count)
    moved = 6 * int((order != np.arange(count)).sum())
    assert found == (tuple(names[k] for k in order) if moved >= 11 else None)
    some = targets == targets[0]
    stays = assigned(answers[some], targets[some], count)
    assert sorted(stays) == list(range(count)) and (stays != np.arange(count)).sum() in (0, 2)


def test_a_network_that_names_one_class_only_is_in_no_other_order() -> None:
    targets = np.repeat([0, 1, 2], [60, 20, 20])
    assert better_order(np.full(100, 2), targets, ("a", "b", "c"), 0.6) is None


# What it was fed


SPEC = InputSpec(height=2, width=2, mean=(0,) * 3, std=(1,) * 3, classes=("a", "b"))


def test_feedings_are_as_those_who_use_them_write_them() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    made = {feeding.said: normalise(images, feeding.of(SPEC)) for feeding in USUAL}
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    caffe = planes[:, ::-1] - np.float32([103.939, 116.779, 123.68])[:, None, None]
    for said, expected in {
        "bytes less Caffe's means, blue first": caffe,
        "scaled to [-1, 1]": planes / 127.5 - 1,
        "bytes from 0 to 255, blue first": planes[:, ::-1],
        "scaled to [0, 1]": planes / 255,
    }.items():
        np.testing.assert_allclose(made[said], expected, atol=1e-3)
    one = SPEC.model_copy(update={"channels": "grey", "mean": (0.0,), "std": (1.0,)})
    grey = normalise(images[..., :1], USUAL[1].of(one))
    np.testing.assert_allclose(grey, planes[:, :1] / 127.5 - 1, atol=1e-5)
    assert USUAL[-1].recipe(one).startswith("channels: grey, mean: [0.45")
    assert len(made) == 10


def test_a_few_images_more_by_chance_are_not_told() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 3), dtype=np.uint8)

    def reaching(count: int) -> Callable[[np.ndarray], Scores]:
        """Five images are right as they are fed; others, so many, if they are fed bytes."""

        def score(prepared: np.ndarray) -> Scores:
            each = np.zeros(40)
            each[slice(5, 5 + count) if prepared.max() > 100 else slice(5)] = 1
            return Scores(each.mean(), each)

        return score

    assert list(of_feeding(images, SPEC, reaching(18), "top-1", 0.3)) == []  # p = 0.011
    (doubt,) = of_feeding(images, SPEC, reaching(30), "top-1", 0.3)
    assert figures(doubt) == [12.5, 75.0]
    assert list(of_feeding(images, SPEC, reaching(30), "top-1", 0.7)) == []  # a guess does as well


def test_outputs_that_are_no_numbers_reach_nothing() -> None:
    task = Classification(SPEC)
    outputs = {"logits": np.array([[1.0, 0.0], [np.nan, np.inf]])}
    assert scores(task, lambda _: [True, True], outputs).reached == 0
    good = scores(task, lambda x: (x["logits"].argmax(1) == 0).tolist(), {"logits": np.eye(2)})
    assert (good.reached, good.each.tolist()) == (0.5, [1, 0])


def test_points_have_no_order_to_be_found() -> None:
    scored = accuracy(0, 40)
    spec = SPEC.model_copy(update={"classes": (), "points": ("red", "green")})
    assert Keypoints(spec).order_of != "classes"
    assert list(of_order(scored, np.zeros((40, 4)), spec, 0.1)) == []
