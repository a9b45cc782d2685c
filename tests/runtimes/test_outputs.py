"""Whatever shape a network puts its answer into, it is found by name."""

from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.runtimes.outputs import by_name, in_order, joined, parts_of
from compress.utils.errors import UserError

N, CLASSES = 2, 4
LOGITS: Mapping[str, tuple[int, ...]] = {"logits": (CLASSES,)}
A, B = np.zeros((N, CLASSES)), np.ones((N, CLASSES))
FEATURES, MAPS, LOSS = np.ones((N, 64)), np.ones((N, CLASSES, 3)), np.array(1.0)
Named = namedtuple("Named", ["logits", "aux"])
Sized = namedtuple("Sized", ["features", "scores"])


@dataclass
class Output:
    """As Hugging Face's classifiers answer, without their base class."""

    loss: Any = None
    logits: Any = None
    hidden_states: Any = None


@dataclass(slots=True)
class Slots:
    features: Any
    scores: Any


class Plain:
    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


@pytest.mark.parametrize(
    "answer",
    [
        A,
        (A, FEATURES),
        (FEATURES, A),
        [A],
        [FEATURES, MAPS, A],
        {"x": A, "y": FEATURES},
        {"y": B, "logits": A},
        OrderedDict(features=FEATURES, scores=A),
        {"head": {"logits": A, "maps": MAPS}, "aux": B},
        Named(A, B),
        Named(A, None),
        Sized(FEATURES, A),
        Output(logits=A),
        Output(LOSS, A, (FEATURES, B)),
        Slots(FEATURES, A),
        Plain(logits=A, aux_logits=B),
        Plain(kind="answer", maps=MAPS, out=A),
        (A, None),
        (A, (FEATURES, [MAPS])),
        (LOSS, A),
    ],
)
def test_one_output(answer: object) -> None:
    found = by_name(answer, LOGITS)
    assert list(found) == ["logits"] and found["logits"] is A


def test_the_first_is_not_taken_where_another_could_be_meant() -> None:
    for answer, both in (
        ((A, B), r"\[0\] and \[1\]"),
        ({"first": A, "second": B, "x": FEATURES}, "first and second"),
        (Plain(a=A, b=B), "a and b"),
        (Output(hidden_states=(A, FEATURES, B)), r"hidden_states\[0\] and hidden_states\[2\]"),
        ({"a": {"logits": A}, "b": {"logits": B}}, r"a\.logits and b\.logits"),
    ):
        with pytest.raises(UserError, match=f"gives {both}, and each could be its logits"):
            by_name(answer, LOGITS)
        assert by_name(answer, LOGITS, training=True)["logits"] is A


def test_a_tasks_own_name_comes_before_what_others_call_it() -> None:
    points = {"coordinates": (CLASSES,)}
    assert by_name({"logits": B, "coordinates": A}, points)["coordinates"] is A
    assert by_name({"x": B, "logits": A}, points)["coordinates"] is A
    assert by_name({"logits": MAPS, "x": A}, points)["coordinates"] is A


def test_nothing_that_fits() -> None:
    with pytest.raises(UserError, match=r"gives x \(2, 64\), y \(2, 4, 3\), and none of these"):
        by_name({"x": FEATURES, "y": MAPS}, LOGITS)
    for nothing in (None, (), {}, Output(), "text", [{}, (None,)]):
        with pytest.raises(UserError, match=r"gives 0 outputs \(\w+\) where logits are expected"):
            by_name(nothing, LOGITS)


def test_several_outputs_by_name_or_else_in_order() -> None:
    wanted = {"a": (CLASSES,), "b": (CLASSES,)}
    for answer in (OrderedDict(b=B, a=A, c=A), (A, B), {"x": A, "b": B}):  # one name is not enough
        found = by_name(answer, wanted)
        assert found["a"] is A and found["b"] is B
    with pytest.raises(UserError, match="gives 1 outputs where a, b are expected"):
        by_name(A, wanted)


def test_parts_by_where_they_are() -> None:
    answer = (A, {"x": B, "more": [FEATURES, None, (MAPS,)]})
    assert list(parts_of(answer)) == ["[0]", "[1].x", "[1].more[0]", "[1].more[2][0]"]
    assert [id(x) for x in in_order(answer)] == [id(x) for x in (A, B, FEATURES, MAPS)]


ARRAYS = st.sampled_from([(N, CLASSES), (N, 64), (N, CLASSES, 3), (), (N,)]).map(np.zeros)
KEYS = st.sampled_from(["logits", "aux", "features", "out", "loss"])
ANSWERS = st.recursive(
    ARRAYS | st.none() | st.sampled_from(["text", 3]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.builds(Output, inner, inner, inner),
        st.builds(Slots, inner, inner),
        st.builds(Named, inner, inner),
        st.dictionaries(KEYS, inner, max_size=3).map(lambda x: Plain(**x)),
    ),
    max_leaves=8,
)


@given(ANSWERS, st.booleans())
def test_any_answer_ends_in_an_array_that_is_meant_or_in_a_sentence(
    answer: object, training: bool
) -> None:
    parts = parts_of(answer)
    fitting = [path for path, x in parts.items() if x.shape == (N, CLASSES)]
    called = [path for path in fitting if path.split(".")[-1] == "logits"]
    try:
        found = by_name(answer, LOGITS, training)["logits"]
    except UserError as error:
        assert "logits" in str(error) and len(called) != 1
        assert not fitting or (not training and len(fitting) > 1)
        return
    (path,) = (path for path, x in parts.items() if x is found)
    if len(parts) > 1 and path != "logits":
        assert path == (called or fitting)[0] and (training or len(called or fitting) == 1)


def test_batches_are_joined() -> None:
    parts = [{"a": np.zeros((2, 3))}, {"a": np.ones((1, 3))}]
    assert joined(parts)["a"].tolist() == [[0] * 3, [0] * 3, [1] * 3]
