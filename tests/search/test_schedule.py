"""A candidate in rungs: what is trained at a constant rate is shared, and nothing else changes."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.recipe.load import load_recipe
from compress.recipe.schema import chosen
from compress.search.schedule import _plan, rungs, trains, untrained

STUDENT = {
    "student": "students.shufflenet:shufflenet_v2_x0_5",
    "image_size": 32,
    "train": {"epochs": 18, "warmup_epochs": 1, "head_only_epochs": 1},
}
PRUNED = [{"prune": {"speedup": 2}}, {"distill": {"train": {"epochs": 9}}}, {"quantize": {}}]
BINARY = {
    "student": "students.binary:binary_resnet18",
    "image_size": 32,
    "train": {"epochs": 4},
    "activations_first": {"epochs": 2},
}


@pytest.fixture
def chain(shapes: Path, write_recipe: Callable[..., Path]) -> Callable[[list[Any]], list[Any]]:
    def read(steps: list[Any]) -> list[Any]:
        teacher = {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": {"epochs": 1}}
        written = {"name": "s", "data": {"path": str(shapes)}, "teacher": teacher}
        written["measure"] = {"runtimes": ["onnxruntime", "openvino"]}
        recipe = load_recipe(write_recipe(written | {"candidates": {"a": steps}}))
        return recipe.candidates["a"]

    return read


def test_a_student_goes_on_from_rung_to_rung(chain: Callable[[list[Any]], list[Any]]) -> None:
    first, second, third = rungs(chain([{"distill": STUDENT}]))
    assert [first.epochs, second.epochs, third.epochs] == [2, 6, 18]
    settings = [[chosen(step)[1] for step in rung.chain] for rung in (first, second, third)]
    epochs = [[x.train.epochs for x in rung] for rung in settings]
    assert epochs == [[1, 1], [1, 3, 2], [1, 3, 8, 6]]
    # What the next rung goes on from is the same step, so the same stage.
    assert settings[0][0] == settings[1][0] == settings[2][0]
    assert settings[1][1] == settings[2][1]
    begin, go_on, *_, cool = settings[2]
    assert begin.student == STUDENT["student"] and go_on.student is None
    assert (begin.train.warmup_epochs, go_on.train.warmup_epochs) == (1, 0)
    assert (begin.train.cooldown_epochs, cool.train.cooldown_epochs) == (0, 6)
    assert not any(x.control for x in settings[2])


def test_parts_go_on_with_the_epochs_the_head_and_the_network_itself(
    chain: Callable[[list[Any]], list[Any]],
) -> None:
    train = {**STUDENT["train"], "ema": 0.9}
    apart = {**train, "head_lr_factor": 5.0}
    named = STUDENT | {"head": ["conv5", "fc"]}
    *_, whole = rungs(chain([{"distill": named | {"train": apart}}]))
    parts = [chosen(step)[1] for step in whole.chain]
    assert [x.train.epochs_before for x in parts] == [0, 1, 4, 12]
    assert [x.train.ema for x in parts] == [None, None, None, 0.9]
    assert all(x.head == ["conv5", "fc"] for x in parts)
    again = [type(x).model_validate(x.model_dump(exclude_unset=True)) for x in parts]
    assert again == parts  # as `pick.yaml` writes them
    # Where the head learns apart in the first part alone, the others need not know it.
    *_, whole = rungs(chain([{"distill": named | {"train": train}}]))
    heads = [chosen(step)[1].head for step in whole.chain]
    assert heads == [None, None, None, None]  # one epoch is too short to train the head apart
    two = {**train, "head_only_epochs": 0, "layer_decay": 0.5}
    *_, whole = rungs(chain([{"distill": named | {"train": two}}]))
    assert all(chosen(step)[1].head for step in whole.chain)


def test_what_comes_after_training_is_in_every_rung(
    chain: Callable[[list[Any]], list[Any]],
) -> None:
    found = rungs(chain(PRUNED))
    kinds = [[chosen(step)[0] for step in rung.chain] for rung in found]
    assert kinds[0] == ["prune", "distill", "quantize"]
    assert kinds[2] == ["prune", "distill", "distill", "distill", "quantize"]
    assert [rung.new_epochs for rung in found] == [1, 3, 7]


def test_what_cannot_be_continued_is_one_rung(chain: Callable[[list[Any]], list[Any]]) -> None:
    (binary,) = rungs(chain([{"binarize": BINARY}]))
    assert binary.epochs == 4
    mirrored = {"augmentation": {"mirror": "new_class"}, "epochs": 9}
    (one,) = rungs(chain([{"distill": STUDENT | {"learn_from": "labels", "control": False,
                                                 "train": mirrored}}]))  # fmt: skip
    assert one.epochs == 9
    (int8,) = rungs(chain([{"quantize": {}}]))
    assert int8.epochs == 0


def test_untrained_nothing_is_trained_and_no_teacher_asked(
    chain: Callable[[list[Any]], list[Any]],
) -> None:
    student = untrained(chain([{"distill": STUDENT}]))
    _, settings = chosen(student[0])
    assert (settings.train.epochs, settings.learn_from) == (0, "labels")
    assert settings.view_settings() is None and settings.student == STUDENT["student"]
    _, binary = chosen(untrained(chain([{"binarize": BINARY}]))[0])
    assert [train.epochs for _, train in binary.stages()] == [0]
    assert [trains(chain(x)) for x in (PRUNED, [{"quantize": {}}])] == [True, False]


@given(total=st.integers(1, 300))
def test_every_rung_is_as_long_as_it_says_and_shares_the_trunk(total: int) -> None:
    plan = _plan(total)
    assert plan[-1][0] == total
    for epochs, parts in plan:
        assert sum(parts) == epochs and min(parts) > 0
    for (_, shorter), (_, longer) in pairwise(plan):
        assert longer[: len(shorter) - 1] == shorter[:-1]
