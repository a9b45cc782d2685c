"""What fine-tuning needs beside the plain loop: parts that learn apart, averages, mixing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

from compress.data.dataset import Dataset
from compress.data.image_cache import Decoded
from compress.data.input_spec import InputSpec
from compress.data.layouts import read_folder
from compress.data.mirrored_views import MIRROR
from compress.data.split import draw_split
from compress.methods.distill.settings import Settings
from compress.models.head import head_of, last_layer
from compress.tasks import task_of
from compress.training import loop
from compress.training.augmentation import POLICY, apply_views, draw_views
from compress.training.average import note_on, warmed
from compress.training.batches import Batch, ImageFeed, Pixels
from compress.training.groups import SCALE, block, make_optimizer
from compress.training.mirrored import Doubled
from compress.training.mixing import Mix, draw_mix
from compress.training.objectives import label_objective
from compress.training.policies import SEEDS, applied
from compress.training.settings import Augmentation, TrainSettings
from compress.utils.errors import UserError
from compress.utils.progress import Progress

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(shapes: Path) -> Dataset:
    return draw_split(read_folder(shapes), 0.25, 0)


@pytest.fixture(scope="module")
def spec(data: Dataset) -> InputSpec:
    return InputSpec(height=32, width=32, mean=(0.4,) * 3, std=(0.2,) * 3, classes=data.classes)


@pytest.fixture(scope="module")
def decoded(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Pixels:
    return Decoded(data, tmp_path_factory.mktemp("pixels"))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def trained(
    data: Dataset,
    spec: InputSpec,
    decoded: Pixels,
    folder: Path,
    head: Sequence[str] = (),
    shown: list[Batch] | None = None,
    **given: Any,
) -> tuple[Network, list[dict[str, Tensor]]]:
    """Train; return the network and its weights before each step of the loop and at the end.

    Args:
        shown: gets the batches.
    """
    config = TrainSettings.from_key({"epochs": 2, "batch_size": 9, **given})
    seen: list[dict[str, Tensor]] = []
    network = Network()

    class Watched(ImageFeed):
        def batches(self, epoch: int) -> Iterator[Batch]:
            for batch in super().batches(epoch):
                seen.append({k: v.clone() for k, v in network.state_dict().items()})
                if shown is not None:
                    shown.append(batch)
                yield batch

    pool = data.indices("train")
    feed = Watched(data, decoded, spec, config, pool, len(pool), seed=3, device=CPU)
    folder.mkdir(exist_ok=True)
    objective = label_objective(spec, config)
    loop.train(network, feed, objective, config, folder, Progress(Console(quiet=True)), head)
    seen.append({k: v.clone() for k, v in network.state_dict().items()})
    return network, seen


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    names = {k for k in before if not torch.equal(before[k], after[k])}
    return {name.partition(".")[0] for name in names}


def test_what_is_frozen_stays_as_it_is_with_the_statistics_of_its_norms(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    network, seen = trained(data, spec, decoded, tmp_path, freeze=["stem", "blocks.0"])
    moved = {k for k in seen[0] if not torch.equal(seen[0][k], seen[-1][k])}
    assert moved and all(k.startswith(("blocks.1", "head")) for k in moved)
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(UserError, match="Did you mean stem"):
        trained(data, spec, decoded, tmp_path, freeze=["stems"])
    with pytest.raises(UserError, match="nothing that could learn"):
        trained(data, spec, decoded, tmp_path, freeze=["*"])


def test_the_head_learns_alone_in_the_first_epochs(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    _, seen = trained(data, spec, decoded, tmp_path, head_only_epochs=1)
    steps = (len(seen) - 1) // 2
    assert changed(seen[0], seen[steps]) == {"head"}
    assert changed(seen[steps], seen[-1]) == {"stem", "blocks", "head"}


@pytest.mark.parametrize("head", [["head"], ["blocks.1", "head"], ["head", "blocks.1"]])
def test_of_a_head_of_several_modules_the_last_layer_is_doubled(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path, head: list[str]
) -> None:
    mirror = Augmentation(mirror="new_class")
    _, seen = trained(data, spec, decoded, tmp_path, head, epochs=1, augmentation=mirror)
    doubled = {name.rpartition(".mirrored.")[0] for name in seen[0] if ".mirrored." in name}
    assert doubled == {"head.2"}
    assert not torch.equal(seen[0]["head.2.own.weight"], seen[0]["head.2.mirrored.weight"])


def test_all_layers_of_what_is_doubled_begin_anew() -> None:
    both = Doubled(nn.Sequential(nn.Dropout(), nn.Linear(4, 3)))
    assert not torch.equal(*(dict(both.named_parameters())[f"{x}.1.weight"] for x in
                             ("own", "mirrored")))  # fmt: skip


def test_a_head_without_a_layer_for_classes_is_refused() -> None:
    assert last_layer(Network(), ["head", "blocks.0.0"]) == "head.2"
    with pytest.raises(UserError, match=r"no linear layer in stem\.1"):
        last_layer(Network(), ["stem.1"])


def test_a_misspelt_head_is_refused_whatever_asks_for_it(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no module 'haed'"):
        trained(data, spec, decoded, tmp_path, ["haed"], epochs=1, layer_decay=0.5)


def test_continued_training_goes_on_with_the_views_and_the_order(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    whole: list[Batch] = []
    part: list[Batch] = []
    mixed = {"mixup": 0.3, "epochs": 3}
    trained(data, spec, decoded, tmp_path / "whole", shown=whole, **mixed)
    later = mixed | {"epochs": 1, "epochs_before": 2}
    trained(data, spec, decoded, tmp_path / "part", shown=part, **later)
    steps = len(part)
    assert len(whole) == 3 * steps
    for expected, found in zip(whole[2 * steps :], part, strict=True):
        assert np.array_equal(expected.indices, found.indices)
        assert torch.equal(expected.inputs, found.inputs)
    assert not np.array_equal(whole[0].indices, part[0].indices)


def test_epochs_before_choose_the_stored_view_and_not_the_image_size(
    data: Dataset, spec: InputSpec, decoded: Pixels
) -> None:
    pool = data.indices("train")
    given = {"epochs": 3, "epochs_before": 4, "progressive": [{"epochs": 1, "image_size": 24}]}
    config = TrainSettings.model_validate(given)
    bank = draw_views(3 * len(data.images), config.augmentation, np.random.default_rng(0))
    feed = ImageFeed(
        data, decoded, spec, config, pool, len(pool), seed=3, device=CPU,
        bank=bank.reshape(3, len(data.images), -1),
    )  # fmt: skip
    views = [set(next(iter(feed.batches(epoch))).view_numbers.tolist()) for epoch in (4, 5, 6)]
    assert views == [{1}, {2}, {0}]
    assert [feed.spec_of(epoch).width for epoch in (4, 5, 6)] == [24, 32, 32]
    assert "epochs_before" in config.in_key()
    assert "epochs_before" not in TrainSettings(epochs=3).in_key()


def test_blocks_learn_by_the_decay_more_slowly_the_farther_they_are_from_the_end() -> None:
    network = Network()
    head = head_of(network)
    assert head == ("head.2",)
    config = TrainSettings(epochs=1, layer_decay=0.5, head_lr_factor=4.0)
    optimizer = make_optimizer(network, config, head)
    names = {id(p): name for name, p in network.named_parameters()}
    found = {
        block(names[id(p)]): group[SCALE]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        "head.2": 4.0, "blocks.1": 0.5, "blocks.0": 0.25, "stem.1": 0.125, "stem.0": 0.0625,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder.layers.encoder_layer_11.self_attention.in_proj_weight", "encoder_layer_11"),
        ("encoder.layers.encoder_layer_11.mlp.0.weight", "encoder_layer_11"),
        ("features.denseblock2.denselayer1.norm1.weight", "denseblock2"),
        ("backbone.layer1.0.conv1.weight", "0"),
        ("layer1.0.bn1.bias", "0"),
        ("stem.weight", "stem"),
    ],
)
def test_blocks_of_networks_as_they_are_written(name: str, expected: str) -> None:
    assert block(name).rpartition(".")[2] == expected


def test_the_average_of_weights_and_buffers_is_exported(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    _, plain = trained(data, spec, decoded, tmp_path / "last")
    network, seen = trained(data, spec, decoded, tmp_path / "ema", ema=0.6)
    for name in seen[0]:  # the average changes nothing in what is averaged
        assert torch.equal(plain[-2][name], seen[-2][name]), name
    # By hand: the weights after each step are those before the next; the last step's are plain's.
    average = {k: v.clone() for k, v in seen[0].items()}
    for number, weights in enumerate([*seen[1:-1], plain[-1]], 1):
        decay = min(0.6, (1 + number) / (10 + number))
        for name, value in weights.items():
            if value.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * value
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(network.stem[1].running_mean, plain[-1]["stem.1.running_mean"])


def test_a_decay_that_is_never_reached_is_said() -> None:
    assert note_on(0.9, 500) is None
    assert "never reaches 0.9998" in (note_on(0.9998, 500) or "")
    assert warmed(0.9998, 0) == 0.1 and warmed(0.5, 1000) == 0.5


def test_the_rate_is_constant_until_it_cools_down() -> None:
    config = TrainSettings(epochs=10, lr=0.4, warmup_epochs=1, cooldown_epochs=4)
    rates = [loop.learning_rate(config, e) for e in (1, 3, 6, 7, 9.9999)]
    assert rates[:3] == [0.4, 0.4, 0.4]
    assert rates[3] == pytest.approx(0.2) and rates[4] < 1e-4
    with pytest.raises(ValueError, match="more than all epochs"):
        TrainSettings(epochs=3, warmup_epochs=1, cooldown_epochs=3)
    to_go_on = TrainSettings(epochs=2, lr=0.4, warmup_epochs=0, cooldown_epochs=0)
    assert [loop.learning_rate(to_go_on, e) for e in (0, 1.9)] == [0.4, 0.4]


def test_without_epochs_a_network_stays_as_it_begins(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        TrainSettings(epochs=0)  # for a stage alone, which times it
    _, (left,) = trained(data, spec, decoded, tmp_path, epochs=0)
    assert changed(Network().state_dict(), left) == set()


def test_a_resumed_fine_tuning_ends_with_the_same_weights(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "epochs": 3, "ema": 0.9, "head_only_epochs": 1, "cutmix": 1.0, "mixup": 0.3,
        "augmentation": Augmentation(mirror="new_class", policy="trivial", hue=0.1),
    }  # fmt: skip
    whole, _ = trained(data, spec, decoded, tmp_path / "whole", **given)
    config = TrainSettings(**given, batch_size=9)
    pool = data.indices("train")

    class Stopping(ImageFeed):
        def batches(self, epoch: int) -> Iterator[Batch]:
            for batch in super().batches(epoch):
                if epoch == 2:
                    raise InterruptedError
                yield batch

    folder, progress = tmp_path / "part", Progress(Console(quiet=True))
    folder.mkdir()
    broken = Network()
    with pytest.raises(InterruptedError):
        feed = Stopping(data, decoded, spec, config, pool, len(pool), seed=3, device=CPU)
        loop.train(broken, feed, label_objective(spec, config), config, folder, progress)
    assert not any(isinstance(module, Doubled) for module in broken.modules())
    resumed, _ = trained(data, spec, decoded, folder, **given)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


# Images


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0.2, 2), side=st.integers(8, 40))
def test_cutmix_weighs_by_the_share_of_pixels(seed: int, alpha: float, side: int) -> None:
    mix = draw_mix(0.0, alpha, 4, np.random.default_rng(seed))
    assert mix is not None and mix.box is not None
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, side, side)
    mixed = mix(images)
    for number, image in enumerate(mixed):
        partner = mix.order[number]
        own = (image == number).float().mean()
        assert set(image.unique().tolist()) <= {float(number), float(partner)}
        if partner != number:  # to the pixels that rounding takes, a row and a column
            assert float(own) == pytest.approx(mix.weight, abs=2 / side + 1 / side**2)


def test_a_mixed_batch_weighs_both_answers(spec: InputSpec) -> None:
    objective = label_objective(spec, TrainSettings(epochs=1))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    targets, order = torch.tensor([0, 1, 2, 0]), np.array([2, 0, 3, 1])
    batch = Batch(
        torch.empty(4, 3, 8, 8), targets, np.arange(4), np.zeros(4, int), np.zeros((4, 12)),
        Mix(0.3, order),
    )  # fmt: skip
    log_p = logits.log_softmax(1)
    soft = 0.3 * nn.functional.one_hot(targets, 3) + 0.7 * nn.functional.one_hot(targets[order], 3)
    wanted = -(soft * log_p).sum(1).mean()
    torch.testing.assert_close(objective({"logits": logits}, batch), wanted)


def test_views_of_older_recipes_stay_what_they_were() -> None:
    plain = draw_views(6, Augmentation(), np.random.default_rng(4))
    more = Augmentation(mirror="same", policy="rand", saturation=0.3)
    found = draw_views(6, more, np.random.default_rng(4))
    assert np.array_equal(found[:, :8], plain[:, :8])
    u = np.random.default_rng(4).uniform(-1, 1, (6, 8)).astype(np.float32)
    np.testing.assert_allclose(plain[:, 4], 1 + 0.2 * u[:, 4], rtol=1e-6)


def still(**given: Any) -> Augmentation:
    return Augmentation.none().model_copy(update=given)


def test_half_of_the_images_are_mirrored_and_nothing_else(
    data: Dataset, spec: InputSpec, decoded: Pixels
) -> None:
    images = np.asarray(decoded(spec)[:20])
    views = draw_views(20, still(mirror="same"), np.random.default_rng(0))
    plain = apply_views(images, draw_views(20, still(), np.random.default_rng(0)), spec, CPU)
    found = apply_views(images, views, spec, CPU)
    turned = views[:, MIRROR] > 0
    assert 4 < turned.sum() < 16
    wanted = torch.where(torch.from_numpy(turned)[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_a_mirrored_image_is_of_another_class_and_unlabelled_ones_of_none(
    data: Dataset, spec: InputSpec
) -> None:
    views = np.zeros((4, 12), np.float32)
    views[:, MIRROR] = [2, 0, 1, 2]
    found = task_of(spec).targets_in_views(np.array([0, 1, 2, -1]), views)
    assert found.tolist() == [3, 1, 2, -1]


def test_classes_are_doubled_in_training_and_halved_after_it(
    data: Dataset, spec: InputSpec, decoded: Pixels, tmp_path: Path
) -> None:
    mirror = Augmentation(mirror="new_class")
    network, seen = trained(data, spec, decoded, tmp_path, augmentation=mirror)
    assert seen[0]["head.2.own.weight"].shape == seen[0]["head.2.mirrored.weight"].shape
    assert not torch.equal(seen[0]["head.2.own.weight"], seen[0]["head.2.mirrored.weight"])
    assert seen[-1].keys() == Network().state_dict().keys()
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert changed({"head": Network().head[2].weight}, {"head": network.head[2].weight})


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_a_policy_does_the_same_to_the_same_view(
    policy: str, decoded: Pixels, spec: InputSpec
) -> None:
    images = np.asarray(decoded(spec)[:12])
    views = draw_views(12, still(policy=policy), np.random.default_rng(2))
    numbers = views[:, POLICY]
    assert np.array_equal(numbers, numbers.astype(np.int64)) and numbers.max() < 3 * SEEDS
    torch.rand(5)
    first, again = applied(images, numbers), applied(images, numbers)
    assert np.array_equal(first, again) and not np.array_equal(first, images)
    assert np.array_equal(applied(images, np.zeros(12)), images)


def test_colour_changes_as_much_as_is_asked(decoded: Pixels, spec: InputSpec) -> None:
    images = np.asarray(decoded(spec)[:6])
    flat = spec.model_copy(update={"mean": (0.0,) * 3, "std": (1 / 255,) * 3})
    grey = np.zeros((6, 12), np.float32)
    grey[:, 4:6] = 1  # brightness and contrast as they are; saturation 0
    found = apply_views(images, grey, flat, CPU)
    luminance = torch.from_numpy(np.array(images)).float() @ torch.tensor([0.2989, 0.587, 0.114])
    torch.testing.assert_close(found[:, 0], luminance, rtol=0, atol=1.5)


def test_an_epoch_of_labels_alone_is_of_labelled_images() -> None:
    of_labels = {"student": "a:b", "image_size": 8, "learn_from": "labels", "control": False}
    train = {"train": {"epochs": 1, "batch_size": 2, "lr": 1e-3}}
    assert Settings.model_validate(of_labels | train).unlabelled is False
    # The control of a teacher's student takes as many steps as that one, which had more images.
    distilled = Settings.model_validate({"student": "a:b", "image_size": 8} | train)
    assert distilled.without_teacher().unlabelled is True
