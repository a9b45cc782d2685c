"""Why one file is slower than another, on layers and times that are made up."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import compress.profile.compared
from compress.measure.latency import summarise
from compress.measure.layer_profile import LAYOUT, Layer
from compress.profile.blocks import in_blocks, tree
from compress.profile.compared import compared
from compress.profile.comparison import Comparison
from compress.profile.html import comparison_html
from compress.profile.matching import Match, kind, matches
from compress.profile.measured import Measured
from compress.profile.records import BETWEEN, Limits, Rate
from compress.profile.rounds import Rounds
from compress.profile.tallies import tallies
from compress.profile.terminal import WIDTH, show_comparison
from compress.results.schema import Latency
from tests.profiles import HOSTILE, LIMITS, Loads, layer, profile

NOISE = np.asarray([1.01, 0.99, 1.02, 0.98, 1.0])  # of the rounds


def int8(name: str, **facts: Any) -> Layer:
    return layer(name, precision="int8", kernel="QLinearConv", **facts)


def depthwise(name: str, **facts: Any) -> Layer:
    return layer(name, operation="depthwise 3×3", **facts)


def around(operation: str, seconds: float, kernel: str = "") -> Layer:
    """What computes nothing."""
    return layer("", operation=operation, macs=0, seconds=seconds, kernel=kernel or operation)


def rounds(layers: list[Layer], between_s: float = 0.0, noise: np.ndarray = NOISE) -> Rounds:
    seconds = np.outer(noise, [x.seconds for x in layers])
    whole_s = seconds.sum(1) + between_s
    return Rounds(layers, seconds, whole_s, whole_s, 0.0)


def deployed(seconds: float) -> Latency:
    samples = [[seconds * x * y for x in NOISE] for y in NOISE]
    return summarise(samples, batch=1, threads=2)


def comparison(
    a: Rounds,
    b: Rounds,
    like_a: Rounds | None = None,
    facts_a: dict[str, Any] | None = None,
    facts_b: dict[str, Any] | None = None,
    alone: dict[str, Latency] | None = None,
    outputs: Any = (((1, 10),), ((1, 10),)),
) -> Comparison:
    profiles = []
    for name, its, facts in (("a.onnx", a, facts_a), ("b.onnx", b, facts_b)):
        blocks = in_blocks(its.layers)
        root = tree(name, blocks, float(its.whole_s.mean()))
        profiles.append(profile(blocks, root, **{"model": name, "limits": None, **(facts or {})}))
    times = {"A": deployed(a.whole_s.mean()), "B": deployed(b.whole_s.mean())} | (alone or {})
    return compared(Measured(*profiles, a, b, like_a or b, times, outputs))


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress.profile.compared, "measure_limits", lambda *_: LIMITS)


def test_layers_are_matched_by_name_through_quantization_and_fusion() -> None:
    a = [layer("stem"), layer("body.0"), layer("fc.0", operation="linear"),
         layer("fc.1", operation="linear")]  # fmt: skip
    b = [around("QuantizeLinear", 1e-4), int8("body.0"), int8("stem"), around("Transpose", 1e-4),
         int8("fc.0 to fc.1", operation="linear")]  # fmt: skip
    assert matches(a, b) == [
        Match((0,), (2,), True), Match((1,), (1,), True), Match((2, 3), (4,), True)
    ]  # fmt: skip


def test_without_common_names_order_and_size_decide() -> None:
    a = [layer("c0", output_shape=(1, 8, 32, 32)), layer("c1"), layer("c2"), layer("c3")]
    b = [int8("q0", output_shape=(1, 32, 32, 8)), depthwise("q1"), int8("q2"), int8("c3")]
    found = matches(a, b)
    assert [(x.a, x.b, x.by_name) for x in found] == [
        ((0,), (0,), False), ((1,), (2,), False), ((3,), (3,), True)
    ]  # fmt: skip


def test_what_belongs_to_no_layer_is_told_by_its_operation() -> None:
    operations = ("DequantizeLinear", LAYOUT, "Transpose", "Concat", "Softmax")
    kinds = [kind(around(operation, 1e-4)) for operation in operations]
    assert kinds == ["conversion", "layout", "layout", "copy", "other"]
    assert kind(layer(macs=None)) == "compute"


def test_the_parts_add_up_to_the_difference() -> None:
    a = rounds([layer("x"), depthwise("y"), around("Relu", 1e-3)], between_s=2e-3)
    b = rounds([int8("x", seconds=0.004), around("QuantizeLinear", 1e-3), layer("z", macs=10**6)])
    parts = tallies(a, b, matches(a.layers, b.layers))
    total = sum(part.difference_s for part in parts)
    np.testing.assert_allclose(total, b.whole_s - a.whole_s)
    found = comparison(a, b)
    assert sum(x.difference_s.value for x in found.causes) == pytest.approx(
        found.difference_s.value
    )
    assert sum(x.share or 0 for x in found.causes) == pytest.approx(1)
    rows = [*found.pairs, *found.apart]
    assert sum(x.difference_s.value for x in rows) == pytest.approx(found.difference_s.value)


def test_depthwise_layers_in_int8_are_named() -> None:
    names = [f"block.{i}" for i in range(4)]
    a = rounds([layer("stem"), *(depthwise(name) for name in names)])
    slower = {"operation": "depthwise 3×3", "seconds": 0.02}
    conversions = [around(x, 5e-3) for x in ("QuantizeLinear", "DequantizeLinear")]
    b = rounds([conversions[0], int8("stem", seconds=0.005),
                *(int8(name, **slower) for name in names), conversions[1]])  # fmt: skip
    found = comparison(a, b)
    assert found.verdict == (
        "B takes 1.90× (1.90 to 1.90) as long as A, 95.0 against 50.0 ms: 89 % of the difference "
        "is in depthwise convolutions, which take 2.00 times as long in int8 (B) as in float32 "
        "(A). B makes up for 5.00 ms in conv 3×3 layers, which take 2.00 times as long in float32 "
        "(A) as in int8 (B)."
    )
    assert found.causes[0].change == (
        "leave these layers in float32 where int8 is slower here (the step quantize does; "
        "float_layers names more), or try the other runtime; this CPU has none of the instructions "
        "for int8 (avx512_vnni, avx_vnni, amx_int8, asimddp, i8mm)."
    )
    assert found.explanations == [
        "The 5 layers that B computes in int8 take 85.0 ms there, and 50.0 ms in float32 in A: "
        "int8 makes them 1.70 times slower. Large convolutions, which gain most, are 4.00 times "
        "as fast in int8 here. This CPU has none of the instructions for int8 (avx512_vnni, "
        "avx_vnni, amx_int8, asimddp, i8mm)."
    ]
    assert [(x.name, x.a.kernel, x.b.kernel) for x in found.pairs][1] == (
        "block.0",
        "",
        "QLinearConv",
    )
    assert [(x.name, x.a.count, x.b.count) for x in found.apart] == [
        ("conversion: QuantizeLinear", 0, 1), ("conversion: DequantizeLinear", 0, 1),
        (BETWEEN, 5, 7),
    ]  # fmt: skip


def test_the_slower_one_is_explained_whichever_was_named_first() -> None:
    fast = rounds([layer("x"), layer("y")])
    transposes = [around(LAYOUT, 4e-3, "Transpose") for _ in range(5)]
    slow = rounds([layer("x"), *transposes, layer("y")])
    found = comparison(slow, fast)
    assert found.verdict == (
        "A takes 2.00× (2.00 to 2.00) as long as B, 40.0 against 20.0 ms: 100 % of the difference "
        "is in changes of layout (Transpose): 5 in A, 0 in B."
    )
    assert found.causes[0].change and found.causes[0].change.startswith("keep one layout")
    assert comparison(fast, slow).verdict.startswith("B takes 2.00× (2.00 to 2.00) as long as A")


def test_threads_explain_what_the_same_threads_take_away() -> None:
    a = rounds([layer("x")])
    b = rounds([layer("x", seconds=0.025)])
    like_a = rounds([layer("x", seconds=0.012)])
    found = comparison(a, b, like_a, facts_b={"threads": 1})
    assert [(x.kind, round(1e3 * x.difference_s.value)) for x in found.causes] == [
        ("threads", 13), ("rate", 2)
    ]  # fmt: skip
    assert "87 % of the difference is in the number of threads: 1 in B, 2 in A." in found.verdict
    same_file = comparison(a, b, a, facts_b={"threads": 1})
    assert [x.kind for x in same_file.causes] == ["threads"]
    assert [x.found[:6] for x in same_file.facts if x.subject == "threads"] == ["2 used", "1 used"]


def test_more_work_is_told_from_slower_work() -> None:
    a = rounds([layer("x")])
    b = rounds([layer("x", macs=450_000_000, seconds=0.008)])  # half the work in 80 % of the time
    found = comparison(a, b)
    assert {x.kind: round(1e3 * x.difference_s.value) for x in found.causes} == {
        "work": -5, "rate": 3
    }  # fmt: skip
    assert "in conv 3×3 layers, which multiply 2.00 times as much in A." in found.verdict
    assert (
        "A makes up for 3.00 ms in conv 3×3 layers, which take 1.60 times as long for the same"
        in found.verdict
    )


def test_other_kernels_and_layers_of_one_file_are_causes() -> None:
    a = rounds([layer("x", kernel="Conv nchwc"), layer("fc", operation="linear")])
    b = rounds([layer("x", kernel="Conv", seconds=0.02)])
    found = comparison(a, b)
    assert {x.where: round(1e3 * x.difference_s.value) for x in found.causes} == {
        "conv 3×3 layers, which take 2.00 times as long in B (Conv) as in A (Conv nchwc)": 10,
        "linear layers that only A has (1)": -10,
    }


def test_layers_that_both_have_without_a_partner_are_one_cause() -> None:
    wide = [layer(f"Conv_{i}", operation="depthwise 5×5") for i in range(3)]
    found = comparison(rounds([layer("x"), *wide]), rounds([layer("x"), depthwise("other")]))
    (cause,) = found.causes
    assert cause.where == "depthwise convolutions that have no partner: 3 in A, 1 in B"
    assert cause.change == "a network with fewer or smaller ones."


def test_what_is_within_the_noise_is_called_so() -> None:
    noisy = np.asarray([0.8, 1.2, 0.9, 1.1, 1.0])
    a, b = (
        rounds([layer("x")], noise=noisy),
        rounds([layer("x", seconds=0.0105)], noise=noisy[::-1]),
    )
    found = comparison(a, b)
    assert not any(cause.certain for cause in found.causes)
    assert found.causes[0].share is None
    assert "no part of the difference stands out of the noise" in found.verdict
    same = comparison(rounds([layer("x")]), rounds([layer("x")]))
    assert same.verdict == (
        "A and B take the same time: 10.0 and 10.0 ms (B takes 1.00× (1.00 to 1.00) as long). None "
        "of their parts differs by more than the noise."
    )


def test_gains_that_losses_eat_are_told_though_the_time_is_the_same() -> None:
    a = rounds([layer("x"), depthwise("y")])
    b = rounds([int8("x", seconds=0.005), int8("y", operation="depthwise 3×3", seconds=0.015)])
    verdict = comparison(a, b).verdict
    assert verdict.startswith("A and B take the same time")
    assert "B loses 5.00 ms in depthwise convolutions" in verdict
    assert "B gains 5.00 ms in conv 3×3 layers" in verdict


def test_what_int8_does_not_reach_is_told() -> None:
    a = rounds([layer("x"), layer("y")])
    b = rounds([int8("x", seconds=0.005), layer("y")])
    assert comparison(a, b).explanations[1] == (
        "B computes 1 of its 2 layers in float32, 10.0 of its 15.0 ms: int8 makes none of that "
        "faster."
    )
    simulated = rounds([around("QuantizeLinear", 1e-3), layer("x"), layer("y")])
    (said,) = comparison(a, simulated).explanations
    assert said.startswith("B converts between precisions, and yet all its layers compute in float")


def test_threads_that_one_file_uses_less_well_are_told() -> None:
    a, b = rounds([layer("x")]), rounds([layer("x", seconds=0.015)])
    alone = {"A alone": deployed(0.019), "B alone": deployed(0.016)}
    (said,) = comparison(a, b, alone=alone).explanations
    assert said.startswith("2 threads make A 1.90× (1.90 to 1.90) as fast as one does, and B 1.07×")


def test_doubts_are_told() -> None:
    a, b = rounds([layer("x")]), rounds([layer("other", seconds=0.02)])
    found = comparison(a, b, facts_b={"height": 32, "whole_s": 0.03}, outputs=([(1, 10)], [(1, 3)]))
    text = "\n".join(found.notes)
    assert "A takes images of 3 × 64 × 64 and B of 3 × 32 × 64" in text
    assert "A answers with 1×10 numbers, B with 1×3" in text
    assert "1 layer has no name that both files know" in text
    assert "B takes 20.0 ms as deployed, in fresh processes, and 30.0 ms where its layers" in text


def test_terminal_and_page_say_the_same_and_names_do_nothing() -> None:
    a = rounds([layer(f"{HOSTILE}{i}") for i in range(20)])
    b = rounds([int8(f"{HOSTILE}{i}", seconds=0.02) for i in range(20)])
    found = comparison(a, b, facts_a={"model": HOSTILE})
    output = io.StringIO()
    show_comparison(found, Console(file=output, width=WIDTH))
    text = output.getvalue()
    assert text.startswith("B takes 2.00×") and "\x1b[2J" not in text
    assert "The 15 of 20 layers that differ most" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    page = comparison_html(found)
    loads = Loads()
    loads.feed(page)
    assert not [x for x in loads.found if "evil" in x]
    assert found.verdict in page and page.count('data-chart="chart-') == 2


def test_a_record_of_it_is_read_back() -> None:
    found = comparison(rounds([layer("x")]), rounds([int8("x", seconds=0.02)]))
    assert Comparison.model_validate_json(found.model_dump_json()) == found
    assert found.a.limits == Limits(
        macs_per_s={
            "float32": Rate(value=100e9, reached_by="a test"),
            "int8": Rate(value=400e9, reached_by="a test"),
        },
        bytes_per_s=Rate(value=10e9, reached_by="a test"),
    )
