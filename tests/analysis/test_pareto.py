from hypothesis import given
from hypothesis import strategies as st

from compress.analysis.pareto import deployed, front_rows, pareto_front
from tests.result_factory import result

# Few distinct values, so that ties and equal points are common.
POINTS = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.5]), st.sampled_from([0, 0.5, 0.9])))


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(POINTS | st.lists(st.tuples(st.floats(1e-6, 10), st.floats(0, 1))))
def test_front_is_what_nobody_dominates(points):
    expected = [i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)]
    assert sorted(pareto_front(points)) == expected


@given(POINTS)
def test_front_is_ordered_from_fast_to_accurate(points):
    front = [points[i] for i in pareto_front(points)]
    assert front == sorted(front)
    assert [top1 for _, top1 in front] == sorted(top1 for _, top1 in front)


def test_equal_points_are_in_the_front_together():
    assert sorted(pareto_front([(1, 0.5), (1, 0.5), (2, 0.5), (1, 0.4)])) == [0, 1]


def test_no_points_no_front():
    assert pareto_front([]) == []


def test_torch_is_a_reference_and_a_control_may_win():
    torch = result("teacher", role="teacher", runtime="torch", latency_s=0.001, top1=0.99)
    teacher = result("teacher", role="teacher", latency_s=0.1, top1=0.9)
    control = result("alone", role="control", latency_s=0.01, top1=0.85)
    student = result("student", latency_s=0.01, top1=0.8)
    rows = [torch, teacher, control, student]
    assert deployed(rows) == [teacher, control, student]
    assert front_rows(rows) == [control, teacher]


def test_a_dropped_row_is_on_no_front_and_hides_nobody():
    dropped = result("int8", latency_s=0.001, top1=0.99, dropped="It is slower than its parent.")
    student = result("student", latency_s=0.01, top1=0.8)
    assert deployed([dropped, student]) == front_rows([dropped, student]) == [student]
