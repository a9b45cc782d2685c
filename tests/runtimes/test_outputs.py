"""Whatever shape a network puts its answer into, it is found by name."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from compress.runtimes.outputs import by_name, joined
from compress.utils.errors import UserError

A, B = np.zeros(1), np.ones(1)
Named = namedtuple("Named", ["logits", "aux"])


@pytest.mark.parametrize(
    "given",
    [A, (A, B), [A], {"x": A, "y": B}, {"y": B, "logits": A}, Named(A, B)],
    ids=["array", "tuple", "list", "other names", "its name", "named tuple"],
)
def test_one_output(given: object) -> None:
    assert by_name(given, ("logits",)) == {"logits": A}


def test_several_outputs_by_name_or_else_in_order() -> None:
    assert by_name(OrderedDict(b=B, a=A, c=A), ("a", "b")) == {"a": A, "b": B}
    assert by_name((A, B), ("a", "b")) == {"a": A, "b": B}
    assert by_name({"x": A, "b": B}, ("a", "b")) == {"a": A, "b": B}  # one name is not enough
    with pytest.raises(UserError, match="gives 1 outputs where a, b are expected"):
        by_name(A, ("a", "b"))


def test_batches_are_joined() -> None:
    parts = [{"a": np.zeros((2, 3))}, {"a": np.ones((1, 3))}]
    assert joined(parts)["a"].tolist() == [[0] * 3, [0] * 3, [1] * 3]
