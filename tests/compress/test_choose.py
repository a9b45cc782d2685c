import json
import subprocess
import sys

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from compress.choose import Budget, choose, fits
from compress.cli.choose import choose as command
from compress.errors import NothingFits, UserError
from compress.results import append
from tests.compress.result_factory import result

SPEEDUPS = st.sampled_from([0.5, 1.0, 2.0, 9.99, 10.0, 3.8, 123.456789]) | st.floats(0.01, 500)
DROPS = st.sampled_from([-0.01, 0.0, 0.01, 0.02, 0.0123456]) | st.floats(-0.2, 0.9)
TEACHER = result("teacher", role="teacher", latency_s=0.1, top1=0.9)
BUDGETS = st.builds(Budget, st.floats(0.1, 300), st.floats(0, 1))


@st.composite
def candidates(draw):
    numbers = draw(st.lists(st.tuples(SPEEDUPS, DROPS), max_size=6))
    return [
        result(f"c{i}", speedup=speedup, drop=drop, top1=0.9 - drop, latency_s=0.1 / speedup)
        for i, (speedup, drop) in enumerate(numbers)
    ]


def meets(row, budget):
    if row.role == "teacher":
        return budget.speedup <= 1
    return (
        row.speedup.ratio.value >= budget.speedup
        and row.accuracy.top1_drop.value <= budget.max_accuracy_drop
    )


@given(candidates(), BUDGETS, st.booleans())
def test_picks_the_most_accurate_that_fits_then_the_fastest(rows, budget, with_teacher):
    rows = [*rows, TEACHER] if with_teacher else rows
    choice = choose(rows, budget)
    fitting = [row for row in rows if meets(row, budget)]
    assert [row for row in rows if fits(row, budget)] == fitting
    if not fitting:
        assert choice.picked is None
        return
    order = [(-row.accuracy.top1.value, row.latency_s) for row in fitting]
    picked = (-choice.picked.accuracy.top1.value, choice.picked.latency_s)
    assert choice.picked in fitting and picked == min(order)
    assert (choice.runner_up is None) == (len(fitting) == 1)


@given(candidates(), BUDGETS)
def test_a_relaxed_bound_lets_its_row_in_and_is_the_smallest(rows, budget):
    choice = choose(rows, budget)
    if choice.picked:
        assert choice.relaxations == [] and choice.hints() == []
        return
    assert len(choice.hints()) == 2
    for relaxed in choice.relaxations:
        faster = relaxed.option == "--speedup"
        new = (
            Budget(relaxed.value, budget.max_accuracy_drop)
            if faster
            else Budget(budget.speedup, relaxed.value)
        )
        assert meets(relaxed.row, new)
        # One per mille tighter than the best row allows, and nothing is let in.
        tighter = (
            Budget(relaxed.row.speedup.ratio.value * 1.001, budget.max_accuracy_drop)
            if faster
            else Budget(budget.speedup, relaxed.row.accuracy.top1_drop.value * 0.999)
        )
        assert choose(rows, tighter).picked is None
    possible = {x.option for x in choice.relaxations}
    assert ("--speedup" in possible) == any(
        row.accuracy.top1_drop.value <= budget.max_accuracy_drop for row in rows
    )
    assert ("--max-accuracy-drop" in possible) == any(
        row.speedup.ratio.value >= budget.speedup for row in rows
    )


def test_why_names_every_number_with_its_unit():
    why = choose([TEACHER, result("small")], Budget(5, 0.02)).why
    for said in ("small in onnxruntime", "10.0 times faster", "9.60 to 10.5", "same runtime"):
        assert said in why
    for said in ("1 thread", "loses 1.0 points", "0.0 to 2.0", "400 pictures", "5.00 MB", "95 %"):
        assert said in why


def test_warns_when_an_interval_reaches_past_the_budget():
    wide = choose([result(drop=0.01, drop_half=0.02, speedup=10)], Budget(9.9, 0.02))
    assert any("drop reaches 3.0 points, the budget is 2 points" in x for x in wide.warnings)
    assert any("speedup begins at 9.60, the budget is 9.9" in x for x in wide.warnings)
    assert choose([result(drop=0, drop_half=0.001)], Budget(5, 0.02)).warnings == []


def test_says_who_cannot_be_told_apart_and_is_faster():
    near = result("near", top1=0.795, drop=0.015, latency_s=0.002)
    far = result("far", top1=0.7, drop=0.1)
    choice = choose([result("best"), near, far], Budget(5, 0.2))
    assert choice.picked.candidate == "best" and choice.runner_up == near
    assert "0.5 points less top-1" in choice.runner_up_lost
    (warning,) = choice.warnings
    assert "near in onnxruntime" in warning and "Faster than the pick: near" in warning
    assert "far" not in warning


def test_two_are_told_apart_picture_by_picture():
    right = "1" * 300 + "0" * 100
    best = result("best", top1=0.75, correct=right)
    # Both lose 8 pictures and their intervals are the same, but only one wins others back.
    worse = result("worse", top1=0.73, correct="0" * 8 + right[8:])
    other = result("other", top1=0.74, correct="0" * 8 + right[8:-4] + "1" * 4)
    (warning,) = choose([best, worse, other], Budget(5, 0.2)).warnings
    assert "other in onnxruntime (p = 0.39)" in warning and "McNemar" in warning
    assert "worse" not in warning


@pytest.mark.parametrize("elsewhere", [{"pictures": 200}, {"data": "d2"}])
def test_other_pictures_are_compared_by_the_intervals_of_the_drop(elsewhere):
    rows = [result("best"), result("near", top1=0.79, drop=0.02, **elsewhere)]
    (warning,) = choose(rows, Budget(5, 0.2)).warnings
    assert "near in onnxruntime" in warning and "the intervals of the drop overlap" in warning


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no teacher", "here the teacher did not pay"),
        ("from scratch", "here the weights kept from the network it was made of did not pay"),
        ("halved", "here that part did not pay"),
    ],
)
def test_a_control_that_wins_wins_and_it_is_said(kind, said):
    name = f"student ({kind})"
    control = result(name, role="control", top1=0.85, drop=-0.05, control_of="student")
    choice = choose([control, result("student")], Budget(5, 0.02))
    assert choice.picked == control and "gains 5.0 points" in choice.why
    assert any("a control of student" in x and said in x for x in choice.warnings)


REASON = "The int8 file is 0.95 times as fast as the float file it was made of."


def test_a_dropped_row_is_never_offered_and_it_is_said_why():
    dropped = result("int8", top1=0.89, drop=0, speedup=20, dropped=REASON)
    student = result("student", speedup=6)
    assert not fits(dropped, Budget(5, 0.02))
    choice = choose([dropped, student], Budget(5, 0.02))
    assert choice.picked == student and choice.runner_up is None and choice.warnings == []
    assert choice.misses == [f"int8 in onnxruntime: dropped. {REASON}"]
    nothing = choose([dropped, student], Budget(8, 0.005))
    assert nothing.picked is None and f"int8 in onnxruntime: dropped. {REASON}" in nothing.misses
    assert nothing.relaxations == []
    alone = choose([dropped], Budget(5, 0.02))
    assert alone.picked is None and alone.relaxations == []


def test_nothing_fits_names_what_each_misses():
    rows = [TEACHER, result("slow", speedup=5), result("poor", speedup=50, drop=0.05)]
    choice = choose(rows, Budget(20, 0.02))
    slow, poor = choice.misses if "slow" in choice.misses[0] else choice.misses[::-1]
    assert "5.00 times faster where 20 are asked for, 4.00 times too slow" in slow
    assert "5.0 points of top-1 lost, 3.0 points too many" in poor
    assert choice.hints() == [
        "--speedup 5 alone would let in slow in onnxruntime.",
        "--max-accuracy-drop 0.05 alone would let in poor in onnxruntime.",
    ]


def test_torch_never_competes_and_the_unmeasured_are_named():
    rows = [result("eager", runtime="torch"), result("unknown", speedup=None)]
    choice = choose(rows, Budget(1, 1))
    assert choice.picked is None
    assert choice.misses == ["unknown in onnxruntime: not compared with a teacher in its runtime"]


@pytest.mark.parametrize("bad", [(0, 0.1), (-1, 0.1), (float("nan"), 0.1), (2, -0.1), (2, 1.5)])
def test_a_budget_out_of_range_is_refused(bad):
    with pytest.raises(UserError, match="--"):
        Budget(*bad)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)
    append(tmp_path / "reports/whales/results.jsonl", [TEACHER, result("small")])
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_command_prints_the_file_and_what_makes_it(run, tmp_path, monkeypatch):
    asked = ("--speedup", "5", "--max-accuracy-drop", "0.02")
    out = run(*asked)
    assert out.exit_code == 0
    assert "Model file: whales/r1/small.onnx" in out.output
    assert "compress run recipes/whales.yaml" in out.output
    (tmp_path / "whales/r1").mkdir(parents=True)
    (tmp_path / "whales/r1/small.onnx").touch()
    there = run("reports/whales", *asked).output
    assert "Model file: whales/r1/small.onnx" in there and "compress run" not in there
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = run("../reports/whales", *asked).output
    assert "Model file: ../whales/r1/small.onnx" in there and "compress run" not in there


def test_command_takes_the_newest_reports_that_are_comparable(run, tmp_path):
    later, other = {"measured_at": "2026-02-01T00:00:00Z"}, {"data": "d2", "recipe": "cats"}
    rows = [result("vgg", role="teacher", **later, **other), result("tabby", **later, **other)]
    append(tmp_path / "reports/deep/cats/results.jsonl", rows)
    asked = ("--speedup", "5", "--max-accuracy-drop", "0.02")
    assert "Chosen: tabby" in run(*asked).output
    assert "Chosen: small" in run("reports/whales", *asked).output
    assert "Chosen: tabby" in run("reports/deep", *asked).output
    both = run("reports", *asked)
    assert isinstance(both.exception, UserError) and "not comparable" in str(both.exception)


def test_command_prints_json(run):
    out = run("--speedup", "5", "--max-accuracy-drop", "0.02", "--json")
    said = json.loads(out.output)
    assert said["picked"]["candidate"] == "small"
    assert said["picked"]["speedup"]["ratio"]["value"] == 10.0


def test_command_lists_what_was_dropped(run, tmp_path):
    rows = [TEACHER, result("small"), result("int8", top1=0.89, dropped=REASON)]
    append(tmp_path / "reports/whales/results.jsonl", rows)
    for speedup in (5, 50):
        asked = ("--speedup", str(speedup), "--max-accuracy-drop", "0.02")
        assert f"int8 in onnxruntime: dropped. {REASON}" in run(*asked).output
        said = json.loads(run(*asked, "--json").stdout)
        assert f"int8 in onnxruntime: dropped. {REASON}" in said["misses"]


def test_command_exits_with_3_when_nothing_fits(run):
    out = run("--speedup", "50", "--max-accuracy-drop", "0.02")
    assert isinstance(out.exception, NothingFits) and out.exception.exit_code == 3
    assert "small in onnxruntime: 10.0 times faster" in out.output
    assert "--speedup 10 alone" in str(out.exception)


def test_command_refuses_bad_input(run, tmp_path):
    for arguments in (["nowhere", "--speedup", "5"], ["--speedup", "-1"]):
        out = run(*arguments, "--max-accuracy-drop", "0.02")
        assert isinstance(out.exception, UserError)
    (tmp_path / "reports/whales/results.jsonl").unlink()
    out = run("--speedup", "5", "--max-accuracy-drop", "0.02")
    assert isinstance(out.exception, UserError) and "below ./reports" in str(out.exception)


def test_choosing_loads_nothing_heavy():
    heavy = ("torch", "numpy", "scipy", "altair", "jinja2")
    code = f"import sys, compress.cli.choose; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
