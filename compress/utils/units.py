"""Numbers become text here and nowhere else.

Every function takes SI units or fractions and returns the bare number in the unit that its name
says, so that a table can put the unit into the heading; `None` becomes an en dash.
"""

import math

from compress.utils.interval import Interval

NONE = "\u2013"  # en dash: a hyphen could be read as a minus
TIMES = "\u00d7"


def significant(x: float | None, digits: int = 3) -> str:
    """`digits` significant digits, never in exponent notation: 204, 44.6, 0.0123; inf, nan."""
    if x is None:
        return NONE
    if not math.isfinite(x):
        return str(x)
    exponent = int(f"{abs(x):.{digits - 1}e}".split("e")[1]) if x else 0
    return f"{x:.{max(0, digits - 1 - exponent)}f}"


def percent(fraction: float | None) -> str:
    """A share in per cent: 0.819 -> 81.9."""
    return NONE if fraction is None else f"{100 * fraction:.1f}"


def percent_half(interval: Interval | None) -> str:
    """A share in per cent with half its interval: 81.9 ± 3.8."""
    if interval is None:
        return NONE
    return f"{percent(interval.value)} ± {percent((interval.high - interval.low) / 2)}"


def with_half(value: float | None, interval: Interval | None) -> str:
    """A number in any unit with half its interval, where it has one: 81.9 ± 3.8."""
    text = significant(value)
    if value is None or interval is None:
        return text
    decimals = max(1, len(text.partition(".")[2]))
    return f"{value:.{decimals}f} ± {(interval.high - interval.low) / 2:.{decimals}f}"


def percent_range(interval: Interval) -> str:
    """The interval of a share in per cent, after the share: 95 %: 78.1 to 85.7."""
    return f"95 %: {percent(interval.low)} to {percent(interval.high)}"


def probability(fraction: float) -> str:
    """A probability that was drawn, no more certain than draws are: 71 %, more than 99 %."""
    if 0.01 <= fraction <= 0.99:
        return f"{100 * fraction:.0f} %"
    return "more than 99 %" if fraction > 0.5 else "less than 1 %"


def points(fraction: float | None) -> str:
    """A difference of two shares in percentage points: 0.004 -> 0.4."""
    text = percent(fraction)
    return "0.0" if text == "-0.0" else text


def points_typed(fraction: float) -> str:
    """A bound as somebody typed it, with its unit: 0.01 -> 1 point, 0.0025 -> 0.25 points."""
    number = f"{100 * fraction:g}"
    return f"{number} point" if number == "1" else f"{number} points"


def points_interval(interval: Interval | None) -> str:
    """A difference in points with its interval: 0.4 (-1.2 to 2.0)."""
    if interval is None:
        return NONE
    return f"{points(interval.value)} ({points(interval.low)} to {points(interval.high)})"


def times(interval: Interval | None) -> str:
    """A ratio with the sign for times after it."""
    return NONE if interval is None else f"{significant(interval.value)}{TIMES}"


def times_interval(interval: Interval | None) -> str:
    """A ratio with its interval, (low to high) after it."""
    if interval is None:
        return NONE
    low, high = significant(interval.low), significant(interval.high)
    return f"{times(interval)} ({low} to {high})"


def ms(seconds: float | None) -> str:
    """Milliseconds."""
    return significant(None if seconds is None else 1e3 * seconds)


def megabytes(size: int | None) -> str:
    """Megabytes of 10^6 bytes."""
    return significant(None if size is None else size / 1e6)


def count(x: float | None) -> str:
    """A count with an SI prefix: 15.5 G, 41 M, 900."""
    if x is None:
        return NONE
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= factor:
            return f"{significant(x / factor)} {prefix}"
    return significant(x)


def duration(seconds: float | None) -> str:
    """A time for people: 42 s, 12 min, 3.4 h."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{significant(seconds, 2)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def at_least(x: int) -> str:
    """A whole number, raised to three digits, in groups of three: 1453 -> 1,460."""
    last = 10 ** max(0, len(str(x)) - 3)
    return f"{-(-x // last) * last:,}"


def whole(x: int | None) -> str:
    """A whole number with thin groups of three: 12 345."""
    return NONE if x is None else f"{x:,}".replace(",", "\u202f")
