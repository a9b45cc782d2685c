"""The predicted front of cascades against brute force."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.cascade.search import Combination, Option, Way, combinations, covering, front

options = st.lists(
    st.builds(Option, st.sampled_from("abcdef"), st.floats(0.1, 1)),
    min_size=1,
    max_size=4,
    unique_by=lambda x: x.candidate,
)


@given(options, options, options, st.floats(0, 0.1), st.floats(0, 1))
def test_predictions_add_times_and_compound_errors(a, b, c, rest, top1):
    given_options = {
        stage: [Option("teacher", 0.9), *found]
        for stage, found in zip(("find", "turn", "name"), (a, b, c), strict=True)
    }
    taken_s = {
        (stage, option.candidate): 0.05 + 0.01 * len(stage) + 0.001 * ord(option.candidate[0])
        for stage, found in given_options.items()
        for option in found
    }
    halved_s = {network: seconds / 2 for network, seconds in taken_s.items()}
    ways = [
        Way(("find", "turn", "name"), rest, taken_s, top1),
        Way(("turn", "name"), rest / 2, halved_s, top1),
    ]
    found = list(combinations(ways, given_options))
    assert len(found) == (len(a) + 1) * (len(b) + 1) * (len(c) + 1) + (len(b) + 1) * (len(c) + 1)
    for each in found:
        chosen = [
            next(o for o in given_options[stage] if o.candidate == name)
            for stage, name in zip(each.way, each.candidates, strict=True)
        ]
        whole = rest + sum(
            taken_s[network] for network in zip(each.way, each.candidates, strict=True)
        )
        assert each.predicted_s == pytest.approx(whole if len(each.way) == 3 else whole / 2)
        share = math.prod(o.right / 0.9 for o in chosen)
        assert each.predicted_top1 == pytest.approx(min(1.0, top1 * share))


@given(st.dictionaries(st.sampled_from("xyz"), st.sets(st.sampled_from("abcde")), min_size=1))
def test_a_few_combinations_have_every_network(found):
    options = {stage: [*sorted(names), "teacher"] for stage, names in found.items()}
    few = covering(options)
    assert set(few[0].values()) == {"teacher"}
    assert len(few) == max(len(names) for names in options.values())
    for stage, names in options.items():
        assert {chosen[stage] for chosen in few} == set(names)


points = st.tuples(st.integers(1, 6), st.integers(0, 6))


@given(st.lists(points, min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(found):
    rows = [Combination(("s",), (str(i),), t / 10, r / 10) for i, (t, r) in enumerate(found)]
    kept = {(x.predicted_s, x.predicted_top1) for x in front(rows)}

    def beaten(row):
        return any(
            other.predicted_s <= row.predicted_s
            and other.predicted_top1 >= row.predicted_top1
            and (other.predicted_s, other.predicted_top1) != (row.predicted_s, row.predicted_top1)
            for other in rows
        )

    assert kept == {(x.predicted_s, x.predicted_top1) for x in rows if not beaten(x)}
    assert len(kept) == len(front(rows))  # of equals, one
