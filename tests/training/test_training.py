"""Views, the loop, cached teacher outputs: what training promises."""

import io
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from compress.data.dataset import Dataset
from compress.data.image_cache import Decoded
from compress.data.input_spec import InputSpec, normalise
from compress.data.layouts import read_folder
from compress.data.split import draw_split
from compress.methods.distill.teacher_cache import FILE, CachedTeacher, compute, make_online
from compress.models.candidate import Candidate
from compress.models.checkpoint import load_tensors, save_tensors
from compress.tasks.base import TensorOutputs
from compress.training import loop
from compress.training.augmentation import apply_views, draw_views
from compress.training.batches import Batch, ImageFeed, Pixels, draw_bank, draw_order
from compress.training.objectives import MatchLabels, MatchTeacher, label_objective
from compress.training.settings import Augmentation, Phase, TrainSettings
from compress.utils import alone
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from tests.other_run import ALONE, go_on, said, started

CPU = torch.device("cpu")
STILL = Augmentation(rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0)


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(quiet=True))


@pytest.fixture(scope="module")
def data(shapes: Path) -> Dataset:
    return draw_split(read_folder(shapes), 0.25, 0)


@pytest.fixture(scope="module")
def spec(data: Dataset) -> InputSpec:
    return InputSpec(
        height=32, width=32, mean=(0.3, 0.4, 0.5), std=(0.2, 0.25, 0.3), classes=data.classes
    )


@pytest.fixture(scope="module")
def decoded(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Pixels:
    cache = tmp_path_factory.mktemp("pixels")
    return Decoded(data, cache)


def net(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, classes),
    )  # fmt: skip


def feed_of(data: Dataset, spec: InputSpec, decoded: Pixels, settings: TrainSettings) -> ImageFeed:
    pool = data.indices("train")
    return ImageFeed(data, decoded, spec, settings, pool, len(pool), seed=3, device=CPU)


# Views


def test_a_view_that_changes_nothing_is_what_deployment_sees(
    decoded: Pixels, spec: InputSpec
) -> None:
    views = draw_views(5, STILL, np.random.default_rng(0))
    got = apply_views(decoded(spec)[:5], views, spec, CPU).numpy()
    np.testing.assert_allclose(got, normalise(decoded(spec)[:5], spec), atol=2e-3)


@pytest.mark.parametrize("shape", [(33, 33), (33, 65)])
def test_a_rotation_turns_and_does_not_shear(shape: tuple[int, int], spec: InputSpec) -> None:
    height, width = shape
    image = np.zeros((1, height, width, 3), np.uint8)
    image[0, height // 2, width // 2 + 10] = 255  # ten pixels right of the centre
    view = draw_views(1, STILL, np.random.default_rng(0))
    view[0, 0] = np.pi / 2
    flat = InputSpec(height=height, width=width, mean=(0, 0, 0), std=(1, 1, 1), classes=())
    turned = apply_views(image, view, flat, CPU)[0, 0]
    y, x = np.unravel_index(int(turned.argmax()), shape)
    assert (abs(int(y) - height // 2), abs(int(x) - width // 2)) == (10, 0)


def test_views_stay_within_their_settings() -> None:
    settings = Augmentation(rotation_degrees=20, scale=0.3, shift=0.1, brightness=0.4, contrast=0.5)
    views = draw_views(4000, settings, np.random.default_rng(0))
    largest = np.abs(views).max(0)
    assert largest[0] == pytest.approx(np.radians(20), rel=0.02)
    assert largest[1] == pytest.approx(np.log(1.3), rel=0.02)
    assert largest[2:4] == pytest.approx([0.1, 0.1], rel=0.02)
    assert views[:, 4].min() == pytest.approx(0.6, rel=0.02)
    assert views[:, 5].max() == pytest.approx(1.5, rel=0.02)
    assert abs(views[:, :4].mean(0)).max() < 0.02


def test_erasing_leaves_a_square_of_the_mean(spec: InputSpec) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), np.uint8)
    views = draw_views(3, STILL, np.random.default_rng(1))
    plain = apply_views(image, views, spec, CPU)
    erased = apply_views(image, views, spec, CPU, erase=0.25)
    changed = (plain != erased).any(1).sum((1, 2))
    assert ((changed > 80) & (changed <= 100)).all()


@pytest.mark.parametrize("count", [1, 7, 10, 23])
def test_order_shows_every_image_equally_often(count: int) -> None:
    order = draw_order(np.arange(100, 110), count, np.random.default_rng(0))
    seen = np.bincount(order - 100, minlength=10)
    assert len(order) == count and seen.max() - seen.min() <= 1


# The loop


def test_a_network_learns(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path, progress: Progress
) -> None:
    settings = TrainSettings(epochs=30, batch_size=9, lr=2e-2, augmentation=STILL)
    feed = feed_of(data, spec, decoded, settings)
    goal = label_objective(spec, settings)
    history = loop.train(net(), feed, goal, settings, tmp_path, progress)
    assert [epoch.epoch for epoch in history] == list(range(1, 31))
    assert history[-1].loss < 0.6 * history[0].loss


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_ends_with_the_same_weights(
    optimizer: str,
    data: Dataset,
    spec: InputSpec,
    decoded: Pixels,
    tmp_path: Path,
    progress: Progress,
) -> None:
    settings = TrainSettings(
        epochs=4,
        batch_size=8,
        optimizer=optimizer,
        mixup=0.4,
        progressive=[Phase(epochs=1, image_size=24)],
    )
    feed = feed_of(data, spec, decoded, settings)
    whole, goal = net(), label_objective(spec, settings)
    loop.train(whole, feed, goal, settings, tmp_path / "whole", progress)

    class Stopped(Exception):
        pass

    class StoppingFeed(ImageFeed):
        def batches(self, epoch: int) -> Iterator[Batch]:
            for step, batch in enumerate(super().batches(epoch)):
                if epoch == 2 and step == 2:
                    raise Stopped
                yield batch

    broken = net()
    stopping = StoppingFeed(**vars(feed))
    with pytest.raises(Stopped):
        loop.train(
            broken,
            stopping,
            label_objective(feed.spec, settings),
            settings,
            tmp_path / "b",
            progress,
        )
    torch.rand(7)  # whatever else happened since must not matter
    resumed = net()
    history = loop.train(resumed, feed, goal, settings, tmp_path / "b", progress)
    assert len(history) == 4
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_another_run_that_times_in_between_changes_nothing(
    data: Dataset,
    spec: InputSpec,
    decoded: Pixels,
    tmp_path: Path,
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = TrainSettings(epochs=4, batch_size=8, mixup=0.4)
    feed, goal = feed_of(data, spec, decoded, settings), label_objective(spec, settings)
    undisturbed, waiting = net(), net()
    loop.train(undisturbed, feed, goal, settings, tmp_path / "undisturbed", progress)

    monkeypatch.setattr(alone, "LEAST_S", 0.0)
    monkeypatch.setattr(alone, "PATIENCE_S", 0.5)
    others, heard = ExitStack(), io.StringIO()
    timing: list[subprocess.Popen[str]] = []
    taken: list[alone.Turns] = []

    class Turns(alone.Turns):
        """Lets the other run leave once it has waited for long."""

        def __enter__(self) -> Self:
            taken.append(self)
            return super().__enter__()

        def _say(self, text: str) -> None:
            super()._say(text)
            go_on(timing[-1])

    monkeypatch.setattr(loop, "Turns", Turns)

    class TimedBeside(ImageFeed):
        def batches(self, epoch: int) -> Iterator[Batch]:
            for step, batch in enumerate(super().batches(epoch)):
                if step == 0 and epoch in (1, 2):  # another run wants to time something
                    timing.append(others.enter_context(started(ALONE, alone.TIMING)))
                    assert said(timing[-1]).startswith("told: ")
                yield batch

    began = time.perf_counter()
    with others:
        history = loop.train(
            waiting,
            TimedBeside(**vars(feed)),
            goal,
            settings,
            tmp_path / "waiting",
            Progress(Console(file=heard, width=1000)),
        )
        elapsed_s = time.perf_counter() - began
    assert heard.getvalue().count("waits while another run on this machine times") == 1
    # What it waited, half a second twice, is not in the epochs' times.
    (turns,) = taken
    assert turns.waited_s > 0.9
    assert elapsed_s - sum(epoch.seconds for epoch in history) > turns.waited_s
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, waiting.state_dict()[name]), name


class Weighed(torch.nn.Module):
    """A loss with a weight of its own for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, outputs: TensorOutputs, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs["logits"] * self.weight, targets)


def test_what_learns_in_a_loss_learns_and_is_resumed(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path, progress: Progress
) -> None:
    settings = TrainSettings(epochs=3, batch_size=9)
    whole = MatchLabels(Weighed())
    loop.train(net(), feed_of(data, spec, decoded, settings), whole, settings, tmp_path, progress)
    assert whole.learned is not None
    weight = whole.learned.state_dict()["weight"]
    assert (weight != 1).all()

    class Stopped(Exception):
        pass

    class StoppingFeed(ImageFeed):
        def batches(self, epoch: int) -> Iterator[Batch]:
            if epoch == 2:
                raise Stopped
            return super().batches(epoch)

    feed, folder = feed_of(data, spec, decoded, settings), tmp_path / "stopped"
    with pytest.raises(Stopped):
        stopping, begun = StoppingFeed(**vars(feed)), MatchLabels(Weighed())
        loop.train(net(), stopping, begun, settings, folder, progress)
    resumed = MatchLabels(Weighed())
    loop.train(net(), feed, resumed, settings, folder, progress)
    assert resumed.learned is not None
    assert torch.equal(resumed.learned.state_dict()["weight"], weight)


def test_what_learns_in_a_loss_that_does_not_count_is_left_alone() -> None:
    def nobody(batch: Batch) -> TensorOutputs:
        raise AssertionError

    hard = MatchLabels(Weighed())
    learned = [
        MatchTeacher(nobody, lambda *_: torch.zeros(()), share, hard).learned  # type: ignore[arg-type]
        for share in (0.0, 0.5)
    ]
    assert learned == [None, hard.loss]


def test_nan_stops_names_the_step_and_keeps_the_checkpoint(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path, progress: Progress
) -> None:
    settings = TrainSettings(epochs=3, batch_size=9)
    feed = feed_of(data, spec, decoded, settings)
    calls = []

    def loss(outputs: TensorOutputs, targets: Tensor) -> Tensor:
        calls.append(1)
        return outputs["logits"].sum() * (float("nan") if len(calls) == 5 else 1.0)

    with pytest.raises(UserError, match=r"became nan at epoch 2, step 2 of 3"):
        loop.train(net(), feed, MatchLabels(loss), settings, tmp_path, progress)
    tensors, metadata = loop.load_tensors(tmp_path / loop.CHECKPOINT)
    assert len(metadata["history"]) == 1
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = TrainSettings(epochs=10, lr=0.4, warmup_epochs=2)
    rates = [loop.learning_rate(settings, e) for e in np.linspace(0, 9.999, 200)]
    assert rates[0] < 0.001 and max(rates) == pytest.approx(0.4, rel=0.02)
    assert rates[-1] < 1e-4
    assert loop.learning_rate(settings, 6) == pytest.approx(0.2)


def test_no_weight_decay_on_biases_and_norms() -> None:
    optimizer = loop.make_optimizer(net(), TrainSettings(epochs=1, weight_decay=0.3))
    assert {p.ndim > 1 for p in optimizer.param_groups[0]["params"]} == {True}
    assert optimizer.param_groups[1]["weight_decay"] == 0
    assert len(optimizer.param_groups[1]["params"]) == 5


# Cached teacher outputs


def candidate(spec: InputSpec) -> Candidate:
    settings = {"pool": 1, "classifier_width": 16, "width": 0.1}
    return Candidate.create("teachers.vgg:vgg16_bn", settings, spec, ("teacher",), 0, ())


@pytest.mark.parametrize("top_k", [3, 2])
def test_cached_outputs_are_the_online_ones(
    top_k: int,
    data: Dataset,
    spec: InputSpec,
    decoded: Pixels,
    tmp_path: Path,
    progress: Progress,
) -> None:
    augmentation = Augmentation()
    online = make_online(candidate(spec), decoded, augmentation, CPU, "float32")
    bank = draw_bank(2, len(data.images), augmentation, seed=5)
    pool = data.indices("train", "unlabelled")
    compute(online, data, bank, pool, top_k, tmp_path, progress, batch_size=10)
    cached = CachedTeacher.load(tmp_path, spec)

    settings = TrainSettings(epochs=2, batch_size=8, augmentation=augmentation)
    feed = ImageFeed(data, decoded, spec, settings, pool, len(pool), 0, CPU, bank)
    for epoch in range(2):
        for batch in feed.batches(epoch):
            assert (batch.view_numbers == epoch).all()
            expected, got = online(batch)["logits"], cached(batch)["logits"]
            if top_k == 3:
                torch.testing.assert_close(got, expected, atol=5e-3, rtol=5e-3)
            # With fewer logits than classes, the probabilities of the kept ones are exact.
            best = expected.topk(2).indices
            torch.testing.assert_close(
                got.softmax(1).gather(1, best), expected.softmax(1).gather(1, best),
                atol=5e-3, rtol=5e-3,
            )  # fmt: skip
    assert not list(tmp_path.glob("view-*"))
    # As it was written before outputs had names.
    tensors, _ = load_tensors(tmp_path / FILE)
    old = {"values": "values", "places": "classes", "rest": "rest"}
    earlier = {old[name.partition(".")[2]]: x for name, x in tensors.items()}
    save_tensors(tmp_path / FILE, earlier, {"num_classes": 3})
    again = CachedTeacher.load(tmp_path, spec)(batch)
    torch.testing.assert_close(again["logits"], got, rtol=0, atol=0)
