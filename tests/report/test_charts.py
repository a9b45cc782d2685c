"""Axes, fronts and places of the report's charts, without a browser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.analysis.budget import Budget
from compress.analysis.pareto import front_rows
from compress.analysis.summary import summarise
from compress.report.axes import front, x_axes, y_axes
from compress.report.charts import layers_chart, training_chart
from compress.report.front_chart import pareto_chart
from compress.report.label_placement import sides, x_domain, y_domain
from compress.results.schema import Decision, Epoch, StepReport, Training
from tests.result_factory import result

FEW = st.sampled_from([0.001, 0.002, 0.004, 0.01])


@st.composite
def made_rows(draw):
    return [
        result(
            f"c{i}",
            role=draw(st.sampled_from(["candidate", "teacher"])),
            runtime=draw(st.sampled_from(["onnxruntime", "openvino", "torch"])),
            latency_s=draw(FEW),
            top1=draw(st.sampled_from([0.5, 0.8, 0.9])),
            drop=draw(st.none() | FEW),
            size_bytes=draw(st.sampled_from([10**6, 2 * 10**6])),
            macs=draw(st.none() | st.sampled_from([10**6, 10**7])),
            dropped=draw(st.sampled_from([None, None, "slower"])),
        )
        for i in range(draw(st.integers(1, 7)))
    ]


# What each axis reads, in the results' own units; the sign makes less better.
ACROSS = {
    "latency": lambda r: r.latency_s,
    "throughput": lambda r: -r.throughput,
    "size": lambda r: r.artifact.size_bytes,
    "macs": lambda r: r.artifact.macs,
    "memory": lambda r: r.peak_memory_bytes,
    "cold_start": lambda r: r.cold_start_s,
}
UP = {
    "top1": lambda r: -r.accuracy.top1.value,
    "top5": lambda r: -r.accuracy.top5,
    "log_loss": lambda r: r.accuracy.log_loss,
    "drop": lambda r: (
        0 if r.role == "teacher" else r.accuracy.top1_drop and r.accuracy.top1_drop.value
    ),
}


@given(made_rows())
def test_front_of_every_pair_holds_what_no_other_row_beats(rows):
    for x in x_axes(rows):
        for y in y_axes(rows):
            points = {
                i: (across, up)
                for i, r in enumerate(rows)
                if r.dropped is None
                and r.artifact.runtime != "torch"
                and (across := ACROSS[x.key](r)) is not None
                and (up := UP[y.key](r)) is not None
            }
            unbeaten = {
                i
                for i, p in points.items()
                if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points.values())
            }
            found = front(rows, x, y)
            assert set(found) == unbeaten and len(found) == len(unbeaten)
            assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


@given(made_rows())
def test_front_of_latency_and_top1_is_the_reports_front(rows):
    x, y = x_axes(rows)[0], y_axes(rows)[0]
    assert [rows[i] for i in front(rows, x, y)] == front_rows(rows)


def test_an_axis_that_no_row_has_is_not_offered():
    assert "macs" not in {axis.key for axis in x_axes([result(macs=None)])}
    assert "drop" not in {axis.key for axis in y_axes([result(drop=None)])}
    assert "cold_start" not in {axis.key for axis in x_axes([result()])}
    rows = [result(), result("started").model_copy(update={"cold_start_s": 0.05})]
    keys = {axis.key for axis in (*x_axes(rows), *y_axes(rows))}
    assert keys == {*ACROSS, *UP}


def test_intervals_of_times_are_those_of_the_paired_ratio():
    row = result(latency_s=0.01, speedup=10)  # the ratio lies between 9.6 and 10.5
    latency, throughput = (axis.value(row) for axis in x_axes([row])[:2])
    assert latency.value == pytest.approx(10)
    assert (latency.low, latency.high) == pytest.approx((10 / 1.05, 10 / 0.96))
    ends = (throughput.low, throughput.high)
    assert ends == pytest.approx((0.96 * row.throughput, 1.05 * row.throughput))


@given(made_rows(), st.none() | st.builds(Budget, st.floats(0.1, 1e4), st.floats(0, 1)))
def test_every_interval_and_the_budget_lie_in_the_chart(rows, budget):
    for axes, domain in ((x_axes(rows), x_domain), (y_axes(rows), y_domain)):
        for axis in axes:
            best, worst = domain(axis, rows, budget)
            inside = [x for r in rows if (known := axis.value(r)) for x in (known.low, known.high)]
            if budget:
                teachers = [r for r in rows if r.role == "teacher" and not r.dropped]
                teachers = [r for r in teachers if r.artifact.runtime != "torch"]
                bounds = {
                    "latency": lambda r: 1e3 * r.latency_s / budget.speedup,
                    "top1": lambda r: 100 * (r.accuracy.top1.value - budget.max_accuracy_drop),
                    "drop": lambda r: 100 * budget.max_accuracy_drop,
                }
                inside += [bounds[axis.key](r) for r in teachers if axis.key in bounds]
            assert axis.worse(best) < axis.worse(worst)
            for value in inside:
                assert axis.worse(best) < axis.worse(value) < axis.worse(worst)


def test_names_that_would_meet_go_elsewhere_or_are_left_out():
    everywhere = ("left", "right", "below")
    at = (10.0, 50.0)
    crowd = [(at, "a name", everywhere)] * 4
    assert sides(crowd, [at], (1, 100), (100, 0)) == ["left", "right", "below", None]
    far = [(at, "a name", everywhere), ((10.0, 80.0), "a name", everywhere)]
    assert sides(far, [x[0] for x in far], (1, 100), (100, 0)) == ["left", "left"]
    # No room to the right of the worst point, and none on another dot.
    assert sides([((99.0, 50.0), "name", ("right",))], [], (1, 100), (100, 0)) == [None]
    assert sides([(at, "name", ("left", "right"))], [(9.0, 51.0)], (1, 100), (100, 0)) == ["right"]


def test_chart_begins_with_the_budget_and_the_pick():
    rows = [
        result("teacher", role="teacher", latency_s=0.1, top1=0.9),
        result("fast", latency_s=0.01, top1=0.88, drop=0.02),
        result("right", latency_s=0.02, top1=0.89, drop=0.01, speedup=5),
    ]
    spec = pareto_chart(summarise(rows, Budget(4, 0.02)))
    first = {x["name"]: x["value"] for x in spec["params"]}
    assert (first["x_key"], first["y_key"]) == ("latency", "top1")
    assert (first["speedup"], first["drop"]) == (4, 0.02)
    points = next(iter(spec["datasets"].values()))
    assert [points[i]["label"] for i in first["fitting"]] == ["fast", "right"]
    assert points[first["picked"]]["label"] == "right"
    none = {x["name"]: x["value"] for x in pareto_chart(summarise(rows))["params"]}
    assert (none["speedup"], none["drop"], none["picked"], none["fitting"]) == (*[None] * 3, [])


def test_layers_are_compared_where_they_were_timed_twice():
    def step(*decisions):
        return StepReport(step="prune", decisions=decisions)

    one = Decision(layer="a", change="int8", before_s=0.002, after_s=0.001, kept=True)
    other = one.model_copy(update={"change": "rank 8", "after_s": 0.003, "kept": False})
    assert layers_chart(step()) is None
    assert layers_chart(step(one.model_copy(update={"after_s": None}))) is None
    (bars,) = layers_chart(step(one, other))["datasets"].values()
    assert [(x["layer"], x["which"], x["ms"], x["kept"]) for x in bars] == [
        ("a, int8", "before", 2, True),
        ("a, int8", "after", 1, True),
        ("a, rank 8", "before", 2, True),
        ("a, rank 8", "after", 3, False),
    ]


def test_candidates_of_one_training_share_a_line():
    def trained(loss):
        epochs = [Epoch(epoch=1, loss=loss, seconds=1, images_per_s=1)]
        return Training(description="x", labelled_images=1, seconds=1, epochs=epochs)

    rows = [result("a", training=trained(1.0)), result("a_int8", training=trained(1.0))]
    rows += [result("b", training=trained(2.0)), result("b", runtime="openvino")]
    (data,) = training_chart(rows, "loss")["datasets"].values()
    assert [(x["candidate"], x["value"]) for x in data] == [("a, a_int8", 1.0), ("b", 2.0)]
    assert training_chart(rows, "validation_top1") is None
