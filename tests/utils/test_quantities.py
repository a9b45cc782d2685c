"""What people write becomes the number that they mean, or a sentence that says what is accepted."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.utils.errors import UserError
from compress.utils.quantities import parse_bytes, parse_seconds, parse_share, parse_times

SPACES = st.sampled_from(["", " ", "  "])
FLOATS = st.floats(0, 1e12)
DECIMALS = st.decimals(min_value=Decimal("0.001"), max_value=10**5, places=4)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5000000", 5_000_000),
        ("5MB", 5_000_000),
        ("5 MB", 5_000_000),
        ("6mb", 6_000_000),
        ("1.5 kB", 1500),
        ("1.5K", 1500),
        ("6KB", 6000),
        ("2MiB", 2 * 2**20),
        ("3G", 3 * 10**9),
        ("7B", 7),
        ("1e6", 10**6),
        (700, 700),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("20 MS", 0.02), ("0.02s", 0.02), ("500us", 5e-4), ("500µs", 5e-4)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


NOTHING = ["", ".", "-1", "1.2.3", "1,5", "nan", "inf", "5 or so", "5 5", "1e4000", "٣", "five"]


@pytest.mark.parametrize(
    ("parse", "wrong", "accepted"),
    [
        (parse_times, ["5%", "5ms", "x", "5xx"], "write 5x, or 5"),
        (parse_share, ["5x", "%", "1 point"], "write 1%, or 0.01"),
        (parse_seconds, ["20", "20m", "ms", "20 minutes"], "20ms, 0.02s or 500us"),
        (parse_bytes, ["MB", "5 TB", "5 MB or so", "5%"], "write bytes, or a number and kB"),
    ],
    ids=lambda x: x.__name__ if callable(x) else "",
)
def test_what_is_none_is_refused_with_what_is_accepted(
    parse: Callable[[Any], float], wrong: list[str], accepted: str
) -> None:
    for text in [*NOTHING, *wrong]:
        with pytest.raises(UserError) as refused:
            parse(text)
        assert str(refused.value).startswith(f"{text!r} is no ")
        assert accepted in str(refused.value)


@given(FLOATS, SPACES, st.sampled_from(["", "x", "X", "×"]))
def test_a_speedup_is_read_back_as_it_was_written(value: float, space: str, unit: str) -> None:
    assert parse_times(f"{value!r}{space}{unit}") == parse_times(value) == value


@given(FLOATS, DECIMALS, SPACES)
def test_a_share_is_read_back_as_it_was_written(value: float, percent: Any, space: str) -> None:
    assert parse_share(f"{value!r}") == parse_share(value) == value
    assert parse_share(f"{percent}{space}%") == float(percent.scaleb(-2))


@given(FLOATS, DECIMALS, SPACES)
def test_a_time_is_the_seconds_of_the_same_digits(value: float, time: Any, space: str) -> None:
    assert parse_seconds(f"{value!r}{space}s") == value
    assert parse_seconds(f"{time}{space}ms") == float(f"{time.scaleb(-3):f}")
    assert parse_seconds(f"{time}{space}us") == float(f"{time.scaleb(-6):f}")


@given(st.integers(0, 10**15), SPACES)
def test_a_size_is_read_back_as_it_was_written(size: int, space: str) -> None:
    assert parse_bytes(size) == parse_bytes(f"{size}{space}B") == size
    assert parse_bytes(f"{Decimal(size).scaleb(-6)}{space}MB") == size
    assert parse_bytes(f"{size}{space}KiB") == 1024 * size


@given(st.text(max_size=8), st.sampled_from([parse_times, parse_share, parse_seconds, parse_bytes]))
def test_any_text_is_a_number_or_refused_in_a_sentence(
    text: str, parse: Callable[[Any], float]
) -> None:
    try:
        assert parse(text) >= 0
    except UserError as error:
        assert str(error).startswith(f"{text!r} is no ")
