import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compress.metrics.significance import mcnemar

COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS, COUNTS)
def test_is_the_binomial_test_on_the_images_where_they_differ(only_a, only_b, both):
    a = "1" * only_a + "0" * only_b + "1" * both
    b = "0" * only_a + "1" * only_b + "1" * both
    tosses = only_a + only_b
    expected = stats.binomtest(only_a, tosses).pvalue if tosses else 1.0
    assert mcnemar(a, b) == pytest.approx(expected) == mcnemar(b, a)


def test_many_images_take_no_time():
    a, b = "1" * 10_000 + "0" * 9_500, "0" * 10_000 + "1" * 9_500
    began = time.process_time()
    found = mcnemar(a, b)
    assert time.process_time() - began < 1
    assert found == pytest.approx(stats.binomtest(9_500, 19_500).pvalue)


def test_other_images_cannot_be_compared():
    with pytest.raises(ValueError):
        mcnemar("10", "1")
