"""What may be asked of a model: sizes and times as people type them, ranges, recipes."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.analysis.budget import CONSTRAINTS, Budget, seconds
from compress.recipe.load import load_recipe
from compress.report.write import budget_of
from compress.utils.errors import UserError
from compress.utils.units import parse_bytes
from tests.conftest import tiny_recipe


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5000000", 5_000_000),
        ("5MB", 5_000_000),
        ("5 MB", 5_000_000),
        ("1.5 kB", 1500),
        ("1.5K", 1500),
        ("2MiB", 2 * 2**20),
        ("3G", 3 * 10**9),
        (700, 700),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.2.3", ".", "5 TB", "5 MB or so", "1e6", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no size"):
        parse_bytes(text)


@given(st.decimals(min_value=Decimal("0.001"), max_value=10**5, places=4))
def test_milliseconds_are_the_seconds_of_the_same_digits(milliseconds: Decimal) -> None:
    digits = f"{milliseconds.scaleb(-3):f}"
    assert seconds(float(milliseconds)) == float(digits)


@pytest.mark.parametrize("bound", CONSTRAINTS, ids=lambda bound: bound.field)
def test_out_of_range_is_refused_with_an_example(bound: Any) -> None:
    bad = [-1, float("nan"), float("inf"), *([1.5] if bound.share else [0])]
    for limit in bad:
        with pytest.raises(UserError, match=f"^{bound.option} .* is out of range: give .*, "):
            Budget(**{bound.field: limit})
    for limit in [0, 1] if bound.share else [1e-9, 1e9]:
        Budget(**{bound.field: limit})


@pytest.mark.parametrize("confidence", [0, 0.49, 1, 95, float("nan")])
def test_confidence_out_of_range_is_refused(confidence: float) -> None:
    with pytest.raises(UserError, match="--confidence"):
        Budget(5, confidence=confidence)


def test_something_must_be_asked_for() -> None:
    for nothing in ({}, {"confidence": 0.9}):
        with pytest.raises(UserError, match=r"No budget was given: .*--max-memory, --runtime"):
            Budget(**nothing)
    with pytest.raises(UserError, match="choose of onnxruntime, openvino"):
        Budget(runtime="torch")


def test_a_budget_in_words() -> None:
    everything = Budget(5, 0.01, 0.0015, 0.8, 5_000_000, 2e8, "openvino", 0.95)
    assert str(everything) == (
        "at least 5 times faster than the teacher in the same runtime, at most 1 point of "
        "accuracy lost, at most 1.5 ms an image, an accuracy of at least 80 %, a file of at most "
        "5 MB, at most 200 MB of memory, in openvino, with 95 % probability"
    )


def test_a_recipe_takes_further_bounds(write_recipe: Any, shapes: Path) -> None:
    recipe = tiny_recipe(shapes)
    recipe["budget"] |= {"latency_ms": 12.3, "min_accuracy": 0.5, "max_bytes": "5MB"}
    recipe["budget"] |= {"max_memory": 200_000_000, "runtime": "onnxruntime"}
    asked = budget_of(load_recipe(write_recipe(recipe)))
    assert asked == Budget(1, 1, 0.0123, 0.5, 5_000_000, 200_000_000, "onnxruntime")
    recipe["budget"] |= {"max_bytes": "five", "latency_ms": 0, "runtime": "torch"}
    with pytest.raises(UserError) as refused:
        load_recipe(write_recipe(recipe))
    for said in ("budget.max_bytes: 'five' is no size", "budget.latency_ms: ", "budget.runtime: "):
        assert said in str(refused.value)
    del recipe["budget"]["speedup"]
    with pytest.raises(UserError, match=r"budget.speedup: is missing"):
        load_recipe(write_recipe(recipe))
