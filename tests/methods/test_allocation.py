"""Widths against exhaustive search, and the search for those that meet a target."""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from compress.data.input_spec import InputSpec
from compress.measure.layer_times import Chain, LayerTimes
from compress.methods.prune.allocation import WidthOptions, allocate, nearest, uniform
from compress.methods.prune.channel_groups import PrunableNetwork
from compress.methods.prune.width_search import TOLERANCE, NetworkTimes, Search
from compress.utils.errors import UserError

importances = st.lists(st.floats(0, 10), min_size=1, max_size=12).map(np.asarray)


def kept(choices: Sequence[WidthOptions], widths: Sequence[int]) -> float:
    pairs = zip(choices, widths, strict=True)
    return sum(choice.kept[choice.widths.index(width)] for choice, width in pairs)


def best(
    choices: Sequence[WidthOptions], cost: Callable[[Sequence[int]], float], target: float
) -> float:
    """The most importance that any widths keep at this cost."""
    every = product(*(choice.widths for choice in choices))
    return max(kept(choices, widths) for widths in every if cost(widths) <= target)


@st.composite
def problems(
    draw: st.DrawFn, groups: int = 3
) -> tuple[list[WidthOptions], dict[tuple[int, ...], float]]:
    """WidthOptions, and a cost of every combination that need not be monotone."""
    step = draw(st.integers(1, 4))
    drawn = draw(st.lists(importances, min_size=1, max_size=groups))
    choices = [WidthOptions.of(importance, step) for importance in drawn]
    every = list(product(*(choice.widths for choice in choices)))
    assume(len(every) <= 300)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return choices, dict(zip(every, rng.uniform(1, 9, len(every)).tolist(), strict=True))


def test_choices_by_hand() -> None:
    choices = WidthOptions.of(np.asarray([1.0, 5.0, 2.0, 4.0, 3.0]), 2)
    assert choices == WidthOptions((2, 4, 5), (9.0, 14.0, 15.0))
    assert WidthOptions.of(np.asarray([1.0, 2.0]), 16) == WidthOptions((2,), (3.0,))


@given(importances, st.integers(1, 16))
@settings(deadline=None)
def test_the_most_important_channels_are_kept(importance: np.ndarray, step: int) -> None:
    choices = WidthOptions.of(importance, step)
    assert choices.widths[-1] == len(importance)
    assert all(width % step == 0 for width in choices.widths[:-1])
    for width, worth in zip(choices.widths, choices.kept, strict=True):
        assert worth == pytest.approx(sum(sorted(importance, reverse=True)[:width]))


@given(problems(), st.floats(0, 1))
@settings(deadline=None)
def test_the_target_is_met_or_out_of_reach(
    problem: tuple[list[WidthOptions], dict[tuple[int, ...], float]], share: float
) -> None:
    choices, costs = problem

    def cost(widths: Sequence[int]) -> float:
        return costs[tuple(widths)]

    full = [choice.widths[-1] for choice in choices]
    narrowest = [choice.widths[0] for choice in choices]
    target = share * cost(full)
    for find in (allocate, uniform):
        if cost(narrowest) > target:
            if find is allocate and cost(full) > target:
                with pytest.raises(ValueError, match="out of reach"):
                    find(choices, cost, target)
        else:
            assert cost(find(choices, cost, target)) <= target
        assert find(choices, cost, cost(full)) == full


@given(problems(groups=1), st.floats(0, 1))
@settings(deadline=None)
def test_one_group_keeps_the_most_there_is(
    problem: tuple[list[WidthOptions], dict[tuple[int, ...], float]], share: float
) -> None:
    choices, costs = problem

    def cost(widths: Sequence[int]) -> float:
        return costs[tuple(widths)]

    least = cost(choices[0].widths[:1])
    target = least + share * (max(costs.values()) - least)
    widths = allocate(choices, cost, target)
    assert cost(widths) <= target
    assert kept(choices, widths) == pytest.approx(best(choices, cost, target))


@given(st.lists(importances, min_size=1, max_size=3), st.floats(0, 1))
@settings(deadline=None)
def test_channels_that_cost_alike(drawn: list[np.ndarray], share: float) -> None:
    """Then the least important go first, wherever they are: nothing keeps more."""
    choices = [WidthOptions.of(importance, 1) for importance in drawn]
    target = max(len(choices), share * sum(map(len, drawn)))
    widths = allocate(choices, sum, target)
    assert kept(choices, widths) == pytest.approx(best(choices, sum, target))
    assert kept(choices, widths) >= kept(choices, uniform(choices, sum, target)) - 1e-9


def test_a_dear_channel_goes_before_a_cheap_one() -> None:
    choices = [WidthOptions.of(np.asarray([3.0, 2.0, 1.0]), 1) for _ in range(2)]
    assert allocate(choices, lambda w: 10 * w[0] + w[1], 23) == [2, 3]


def test_steps_over_a_flat_stretch_of_time() -> None:
    stairs = {1: 1.0, 2: 1.0, 3: 4.0, 4: 4.0}
    choices = [WidthOptions.of(np.ones(4), 1), WidthOptions.of(np.full(4, 10.0), 1)]
    assert allocate(choices, lambda w: stairs[w[0]] + w[1], 5.5) == [2, 4]


def test_where_no_group_alone_helps_all_are_narrowest() -> None:
    choices = [WidthOptions.of(np.ones(2), 1) for _ in range(2)]
    assert allocate(choices, lambda w: 1.0 if tuple(w) == (1, 1) else 2.0, 1.5) == [1, 1]


@given(st.lists(st.integers(1, 80), min_size=1, max_size=5), st.floats(0.01, 1))
@settings(deadline=None)
def test_uniform_is_the_same_fraction_of_all(channels: list[int], share: float) -> None:
    choices = [WidthOptions.of(np.ones(count), 8) for count in channels]
    narrowest = sum(choice.widths[0] for choice in choices)
    widths = uniform(choices, sum, max(narrowest, share * sum(channels)))
    fractions = {w / choice.widths[-1] for choice in choices for w in choice.widths}
    assert any(
        widths == [nearest(choice, fraction) for choice in choices] for fraction in fractions
    )


@pytest.mark.parametrize("find", [allocate, uniform])
def test_out_of_reach(find: Callable[..., list[int]]) -> None:
    with pytest.raises(ValueError, match="out of reach"):
        find([WidthOptions.of(np.ones(32), 16)], sum, 15.9)


@pytest.mark.parametrize(
    ("fraction", "width"), [(1, 40), (0, 16), (0.5, 16), (0.6, 16), (0.61, 32), (0.95, 40)]
)
def test_nearest(fraction: float, width: int) -> None:
    assert nearest(WidthOptions.of(np.ones(40), 16), fraction) == width


# Finding the widths of a network.

SPEC = InputSpec(height=16, width=16, mean=(0, 0, 0), std=(1, 1, 1), classes=("a", "b"))


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 96, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 2),
    )


class Formula(LayerTimes):
    """Times that grow with the work and never fall below a start."""

    def __init__(self) -> None:
        super().__init__(Path(), "a", 1)

    def many(self, chains: Iterable[Chain], int8: bool = False) -> list[float]:
        return [sum(1e-6 + 1e-10 * shape.macs for shape in chain) for chain in chains]


FULL = [96, 64]  # the last group first, as Torch-Pruning finds them


def search(round_to: int = 8, is_uniform: bool = False) -> Search:
    prunable = PrunableNetwork(network(), SPEC)
    rng = np.random.default_rng(0)
    worth = [rng.random(g.channels) * (3 - 2 * i) for i, g in enumerate(prunable.groups)]
    choices = [WidthOptions.of(w, round_to) for w in worth]
    return Search(prunable, choices, is_uniform, round_to)


def times(search: Search) -> NetworkTimes:
    return NetworkTimes(search.prunable, Formula(), lambda done, total: None)


@pytest.mark.parametrize("is_uniform", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_macs(share: float, is_uniform: bool) -> None:
    found = search(is_uniform=is_uniform).to_macs(share)
    assert found.target.predicted is not None
    assert found.target.predicted <= share == found.target.asked
    assert found.target.predicted > share - 0.1 and not found.notes
    prunable = PrunableNetwork(network(), SPEC)
    narrow = PrunableNetwork(prunable.narrow([range(width) for width in found.widths]), SPEC)
    macs = [sum(shape.macs for shape in p.shapes.values()) for p in (narrow, prunable)]
    assert macs[0] / macs[1] == pytest.approx(found.target.predicted)


def test_macs_out_of_reach() -> None:
    with pytest.raises(UserError, match=r"macs: 0.01 cannot be reached, the least is 0.0\d+ with"):
        search().to_macs(0.01)


@pytest.mark.parametrize("is_uniform", [False, True])
def test_ratio(is_uniform: bool) -> None:
    found = search(is_uniform=is_uniform).to_ratio(0.5)
    assert sum(found.widths) == 80 and found.target.predicted == 0.5 and not found.notes
    assert (found.widths == [48, 32]) is is_uniform


def test_a_ratio_that_widths_do_not_reach_is_said() -> None:
    found = search(round_to=64).to_ratio(0.9)
    assert found.widths == [64, 64]
    assert found.notes == [
        "prune: ratio 0.9 was asked for; 0.2 is the nearest that widths in steps of 64 channels "
        "gave."
    ]


@pytest.mark.parametrize("is_uniform", [False, True])
@pytest.mark.parametrize("asked", [1.0, 2.0, 3.0])
def test_a_speedup_is_corrected_by_what_is_measured(asked: float, is_uniform: bool) -> None:
    """What layers do not account for takes 10 µs, whatever the widths."""
    chosen = search(2, is_uniform)
    known = times(chosen)
    full = known.total(FULL)
    measured: list[Sequence[int]] = []
    said: list[str] = []

    def measure(widths: Sequence[int]) -> float:
        measured.append(widths)
        return (full + 1e-5) / (known.total(widths) + 1e-5)

    found = chosen.to_speedup(asked, known, measure, said.append)
    assert found.target.asked == asked and found.target.measured == measure(found.widths)
    assert found.target.measured == pytest.approx(asked, rel=TOLERANCE) and not found.notes
    # Layers alone promise what was asked for, before anything was measured.
    assert found.target.predicted == pytest.approx(asked, rel=0.1)
    assert len(said) == len(measured) - 1


def test_a_speedup_between_two_widths_is_said() -> None:
    chosen = search(round_to=32)
    known = times(chosen)
    full = known.total(FULL)
    found = chosen.to_speedup(1.2, known, lambda w: full / known.total(w), lambda text: None)
    assert found.target.measured != pytest.approx(1.2, rel=TOLERANCE)
    assert "speedup 1.2 was asked for" in found.notes[0] and "32 channels" in found.notes[0]


def test_a_speedup_out_of_reach_names_the_layer() -> None:
    chosen = search(round_to=32)
    known = times(chosen)
    with pytest.raises(UserError, match=r"speedup: 20 cannot be reached.* 3.00 times.*, and 2 tak"):
        chosen.to_speedup(20, known, lambda widths: 3.0, lambda text: None)


def test_layers_at_given_widths() -> None:
    chosen = search()
    known = times(chosen)
    by_layer = known.layers(FULL)
    assert list(by_layer) == ["0", "2", "6"]
    assert known.total(FULL) == pytest.approx(sum(by_layer.values()))
