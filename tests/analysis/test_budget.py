"""What may be asked of a model: sizes and times as people type them, ranges, recipes."""

from pathlib import Path
from typing import Any

import pytest

from compress.analysis.budget import CONSTRAINTS, Budget
from compress.recipe.load import load_recipe
from compress.report.write import budget_of
from compress.utils.errors import UserError
from tests.conftest import tiny_recipe


@pytest.mark.parametrize(
    ("written", "field", "number"),
    [
        ({"speedup": "5x"}, "speedup", 5),
        ({"max_accuracy_drop": "1%"}, "max_accuracy_drop", 0.01),
        ({"latency": "20ms"}, "latency_s", 0.02),
        ({"latency_ms": 12.3}, "latency_s", 0.0123),
        ({"min_accuracy": "80 %"}, "min_accuracy", 0.8),
        ({"max_bytes": "6MB"}, "max_bytes", 6_000_000),
        ({"max_memory": "1 MiB"}, "max_memory_bytes", 2**20),
    ],
)
def test_bounds_are_written_as_people_write_them(written: Any, field: str, number: float) -> None:
    assert Budget.typed(**written) == Budget(**{field: number})
    assert Budget.typed(**written, confidence="95%").confidence == 0.95


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"speedup": "5%"}, "--speedup: '5%' is no speedup: write 5x, or 5."),
        ({"max_accuracy_drop": "1x"}, "--max-accuracy-drop: '1x' is no share: write 1%, or 0.01."),
        (
            {"latency": "20"},
            "--latency: '20' is no time: write it with its unit: 20ms, 0.02s or 500us.",
        ),
        (
            {"latency": "0ms"},
            "--latency 0ms is out of range: give the time an image may take",
        ),
        (
            {"max_bytes": "six"},
            "--max-bytes: 'six' is no size: write bytes, or a number and kB, MB, GB or MiB.",
        ),
        ({"confidence": "sure"}, "--confidence: 'sure' is no share: write 1%, or 0.01."),
        ({"max_accuracy_drop": "150%"}, "--max-accuracy-drop 1.5 is out of range"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_accepted(written: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        Budget.typed(**written)
    assert str(refused.value).startswith(said)


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
    recipe["budget"] |= {"speedup": "5x", "max_accuracy_drop": "2%", "min_accuracy": "80%"}
    asked = budget_of(load_recipe(write_recipe(recipe)))
    assert asked == Budget(5, 0.02, 0.0123, 0.8, 5_000_000, 200_000_000, "onnxruntime")
    recipe["budget"] |= {"max_bytes": "five", "latency_ms": 0, "runtime": "torch"}
    recipe["budget"] |= {"speedup": "quick", "max_accuracy_drop": "200%"}
    with pytest.raises(UserError) as refused:
        load_recipe(write_recipe(recipe))
    faults = ("max_bytes: 'five' is no size", "latency_ms: ", "runtime: ", "max_accuracy_drop: ")
    for said in (*faults, "speedup: 'quick' is no speedup: write 5x, or 5"):
        assert f"budget.{said}" in str(refused.value)
    del recipe["budget"]["speedup"]
    with pytest.raises(UserError, match=r"budget.speedup: is missing"):
        load_recipe(write_recipe(recipe))
