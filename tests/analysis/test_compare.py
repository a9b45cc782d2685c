"""What got better or worse between two reports, and how often chance is taken for a change."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from compress.analysis.regressions import Comparison, compare
from compress.cli import app
from compress.metrics.accuracy import wilson
from compress.metrics.significance import holm, mcnemar
from compress.results.file import append
from compress.results.schema import Result, RowKey
from compress.utils.errors import GotWorse, UserError
from tests.result_factory import judged, machine, result

RIGHT = "1" * 300 + "0" * 100


def timed(row: Result, medians_s: Sequence[float]) -> Result:
    """The row with one process of each of these medians."""
    samples = [[0.9 * x, x, 1.2 * x] for x in medians_s]
    median = float(np.median(medians_s))
    first = row.latency[0].model_copy(update={"samples_s": samples, "median_s": median})
    return row.model_copy(update={"latency": [first, *row.latency[1:]]})


def row(
    name: str = "small",
    around_s: float = 0.004,
    correct: str = RIGHT,
    spread: float = 0.01,
    seed: int = 0,
    **more: Any,
) -> Result:
    """Timed in five processes that differ by so much; `correct` makes the accuracy."""
    top1 = wilson(correct.count("1"), len(correct))
    made = result(name, correct=correct, top1=top1.value, images=len(correct), **more)
    made = made.model_copy(update={"accuracy": made.accuracy.model_copy(update={"top1": top1})})
    rng = np.random.default_rng([seed, *name.encode()])
    return timed(made, around_s * np.exp(spread * rng.standard_normal(5)))


def verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    return [
        (pair.accuracy.verdict, pair.latency.verdict if pair.latency else pair.not_judged)
        for pair in comparison.pairs
    ]


def test_the_same_is_the_same() -> None:
    comparison = compare([row()], [row(seed=1)])
    assert verdicts(comparison) == [("no difference shown", "no difference shown")]
    assert not comparison.is_worse and len(comparison.changes) == 2


def test_better_and_worse() -> None:
    # 30 images lost and none won back; a fifth slower.
    after = row(correct="0" * 30 + RIGHT[30:], around_s=0.0048, seed=1)
    (pair,) = compare([row()], [after]).pairs
    assert pair.accuracy.verdict == "worse" and pair.latency is not None
    assert pair.latency.verdict == "worse" and pair.accuracy.beyond and pair.latency.beyond
    assert pair.accuracy.change.value == pytest.approx(-30 / 400)
    assert pair.accuracy.change.high < 0 and pair.latency.change.low > 1
    assert pair.latency.change.value == pytest.approx(1.2, rel=0.02)
    back = compare([after], [row()])
    assert verdicts(back) == [("better", "better")] and not back.is_worse


def test_what_is_tolerated_is_not_beyond() -> None:
    after = row(correct="0" * 30 + RIGHT[30:], around_s=0.0048, seed=1)
    comparison = compare([row()], [after], accuracy_tolerance=0.08, latency_tolerance=0.25)
    assert verdicts(comparison) == [("worse", "worse")] and not comparison.is_worse
    assert compare([row()], [after], accuracy_tolerance=0.07, latency_tolerance=0.25).is_worse
    assert compare([row()], [after], accuracy_tolerance=0.08, latency_tolerance=0.15).is_worse


def test_the_tests_are_the_textbooks_and_corrected_for_their_number() -> None:
    before = [row(), row("other")]
    after = [row(correct="0" * 7 + RIGHT[7:], seed=1), row("other", seed=1)]
    small, other = compare(before, after).pairs
    raw = [mcnemar(RIGHT, after[0].accuracy.correct), 1.0]
    for old, new in zip(before, after, strict=True):
        logs = [np.log([np.median(x) for x in r.latency[0].samples_s]) for r in (old, new)]
        raw.append(stats.ttest_ind(*logs, equal_var=False).pvalue)
    assert small.latency is not None and other.latency is not None
    found = [small.accuracy.p, other.accuracy.p, small.latency.p, other.latency.p]
    np.testing.assert_allclose(found, holm(raw))
    assert found[0] > raw[0]  # 7 to 0 is significant alone (p = 0.016), not as one of four
    assert small.accuracy.verdict == "no difference shown"
    assert verdicts(compare(before[:1], after[:1]))[0][0] == "worse"


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    corrected = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for level in (0.01, 0.05, 0.5):
        rejected = set()
        for rank, i in enumerate(order):
            if p_values[i] * (len(p_values) - rank) > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(corrected) if p <= level} == rejected


def test_chance_is_seldom_taken_for_a_change() -> None:
    """Nothing changed in 400 pairs of reports with two rows: at most 5 % may say otherwise."""
    rng = np.random.default_rng(0)

    def report(seed: int) -> list[Result]:
        right = ["".join("01"[int(x)] for x in rng.random(60) < 0.7) for _ in range(2)]
        return [row(f"r{i}", correct=c, spread=0.2, seed=seed) for i, c in enumerate(right)]

    wrong = sum(
        any(x.verdict != "no difference shown" for x in compare(report(2 * i), new).changes)
        for i, new in ((i, report(2 * i + 1)) for i in range(400))
    )
    assert wrong / 400 < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_other_images_are_compared_without_pairs() -> None:
    after = row(correct="1" * 100 + "0" * 100, data="d2")
    (pair,) = compare([row()], [after]).pairs
    assert "not paired" in pair.accuracy.how and pair.accuracy.verdict == "worse"


def test_the_unpaired_interval_is_newcombes() -> None:
    """The first example of Newcombe (1998), table II: 56/70 - 48/80 is 0.0524 to 0.3339."""
    before = row(correct="1" * 48 + "0" * 32, data="d2")
    after = row(correct="1" * 56 + "0" * 14)
    change = compare([before], [after]).pairs[0].accuracy.change
    assert change.value == pytest.approx(0.2)
    assert (change.low, change.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"on": machine(cpu="Another CPU")}, "different machines"),
        ({"on": machine(onnxruntime="1.99")}, "different versions of a runtime"),
        ({"threads": 4}, "different threads"),
    ],
)
def test_latency_is_judged_only_where_it_is_comparable(other: dict[str, Any], said: str) -> None:
    comparison = compare([row()], [row(around_s=1, **other)])
    ((accuracy, reason),) = verdicts(comparison)
    assert said in reason and accuracy == "no difference shown"
    assert not comparison.is_worse and len(comparison.changes) == 1


def test_a_single_process_tells_nothing_of_others() -> None:
    single = timed(row(), [0.004])
    assert "single process" in verdicts(compare([single], [row()]))[0][1]


def test_rows_appear_and_vanish() -> None:
    before = [row(), row("gone"), row("slow"), row("eager", runtime="torch")]
    after = [row(), row("new"), row("slow", dropped="It is slower."), row(runtime="openvino")]
    comparison = compare(before, after)
    assert [pair.after.candidate for pair in comparison.pairs] == ["small"]
    assert comparison.appeared == [RowKey("new", "onnxruntime"), RowKey("small", "openvino")]
    assert comparison.vanished == {
        RowKey("gone", "onnxruntime"): None,
        RowKey("slow", "onnxruntime"): "It is slower.",
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    append(tmp_path / "a/results.jsonl", [row(), row("other", size_bytes=4_000_000)])
    worse = row(correct="0" * 30 + RIGHT[30:], seed=1, sha256="0" * 64)
    append(tmp_path / "b/results.jsonl", [worse, row("other", size_bytes=3_000_000, sha256="1")])
    return lambda *arguments: CliRunner().invoke(app, ["compare", *arguments])


def test_command_says_what_got_worse_and_exits_with_4(run: Callable[..., Any]) -> None:
    out = run("a", "b")
    assert isinstance(out.exception, GotWorse) and out.exception.exit_code == 4
    assert str(out.exception) == "Got worse by more than is tolerated: small in onnxruntime."
    for said in (
        "2 rows, 4 comparisons",
        "top-1: 75.0 to 67.5 %, -7.5 points (95 % interval ",
        "paired on the same images), p < 0.001: WORSE",
        "5 and 5 processes), p = ",
        "size: 5.00 to 5.00 MB, the same\n",
        "size: 4.00 to 3.00 MB, better\n",
    ):
        assert said in out.output
    assert run("a", "b", "--accuracy-tolerance", "0.1").exit_code == 0
    assert "the same file" in run("a", "a").output


def test_command_prints_json(run: Callable[..., Any]) -> None:
    out = run("a", "b", "--json")
    said = json.loads(out.stdout)
    assert said["is_worse"] and said["comparisons"] == 4
    small = said["rows"][0]
    assert small["accuracy"]["verdict"] == "worse" and small["accuracy"]["beyond_tolerance"]
    assert small["latency_s"]["before"] == pytest.approx(0.004, rel=0.05)
    assert said["rows"][1]["size_bytes"] == {"before": 4_000_000, "after": 3_000_000}
    assert said["appeared"] == said["vanished"] == []


def test_command_says_what_appeared_and_vanished(run: Callable[..., Any], tmp_path: Path) -> None:
    append(tmp_path / "c/results.jsonl", [row(), row("gone"), row("slow")])
    append(tmp_path / "d/results.jsonl", [row(), row("new"), row("slow", dropped="Too slow.")])
    said = json.loads(run("c", "d", "--json").stdout)
    assert said["appeared"] == ["new in onnxruntime"]
    assert said["vanished"] == ["gone in onnxruntime", "slow in onnxruntime: dropped. Too slow."]
    out = run("c", "d").output
    assert "Appeared: new in onnxruntime\nVanished: gone in onnxruntime\n" in out


def test_command_refuses_bad_input(run: Callable[..., Any], tmp_path: Path) -> None:
    append(tmp_path / "c/results.jsonl", [row("stranger")])
    for other, said in (("c", "Nothing to compare"), ("nowhere", "nowhere holds no results")):
        out = run("a", other)
        assert isinstance(out.exception, UserError) and said in str(out.exception)
        assert out.exception.exit_code == 2
    for option, value, said in (
        ("--latency-tolerance", "-1", "--latency-tolerance: '-1' is no share: write 1%, or 0.01."),
        ("--accuracy-tolerance", "5", "--accuracy-tolerance 5 is more than all: 5% is 5 points."),
    ):
        assert str(run("a", "b", option, value).exception) == said
    (tmp_path / "b/results.jsonl").open("a").write('{"cut')
    assert "Left out: b/results.jsonl:3: " in run("a", "b").stderr


def test_points_that_are_right_by_other_rules_are_not_compared() -> None:
    with pytest.raises(
        UserError, match=r"student in onnxruntime was not judged alike: .*0\.05 off"
    ):
        compare([judged(result(), 0.1)], [judged(result(), 0.05)])
    assert compare([judged(result(), 0.1)], [judged(result(), 0.1)]).pairs
