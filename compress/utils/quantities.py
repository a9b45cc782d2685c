"""What people write becomes numbers, here and nowhere else: 5x, 1 %, 20 ms, 6 MB.

Every function takes text or a number, and raises a UserError that says what is accepted.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from compress.utils.errors import UserError

Number = TypeVar("Number", int, float)
TIMES = {"": 0, "x": 0, "×": 0}  # powers of ten of each unit
SHARES = {"": 0, "%": -2}
TIME = {"s": 0, "ms": -3, "us": -6, "μs": -6}  # casefold makes this letter of the micro sign
LONG = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}  # in seconds
BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_times(text: str | float) -> float:
    """Return how many times: 5, 5x and 5× are 5.0."""
    return float(_exact(text, TIMES, "speedup", "write 5x, or 5"))


def parse_share(text: str | float) -> float:
    """Return a share: 0.01 and 1% are 0.01; whether it is at most 1 is for others to say."""
    return float(_exact(text, SHARES, "share", "write 1%, or 0.01"))


def parse_seconds(text: str) -> float:
    """Return the nearest float to a time in seconds; the unit is never left out.

    What is printed as a limit is read back as it was.
    """
    return float(_exact(text, TIME, "time", "write it with its unit: 20ms, 0.02s or 500us"))


def parse_duration(text: str) -> float:
    """Return a stretch of time in seconds: 90s, 30m, 2h, 1h30m."""
    said = "write hours, minutes or seconds: 2h, 30m, 1h30m, 90s"
    parts = re.findall(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)\s*", text.strip().casefold())
    units = [unit for _, unit in parts]
    whole = "".join(number + unit for number, unit in parts)
    if not parts or whole != re.sub(r"\s", "", text.casefold()) or len(set(units)) < len(units):
        raise UserError(f"{text!r} is no time: {said}.")
    if unknown := [unit for unit in units if unit not in LONG]:
        raise UserError(f"{text!r} is no time, {unknown[0]} no unit of it: {said}.")
    seconds = sum(float(number) * LONG[unit] for number, unit in parts)
    if seconds <= 0:
        raise UserError(f"{text!r} is no time at all: {said}.")
    return seconds


def parse_bytes(text: str | int) -> int:
    """Return a size in bytes: 5000000, 5MB (10^6 bytes each), 5 MiB (2^20)."""
    said = "write bytes, or a number and kB, MB, GB or MiB"
    number, unit = _split(text, "size", said)
    factor = BYTES.get(unit.removesuffix("b"))
    if factor is None:
        raise UserError(f"{text!r} is no size: {said}.")
    return int(number * factor)


def behind(option: str, read: Callable[[Any], Number], text: Any) -> Number:
    """Return what one of the functions above makes of an option's text; errors name the option."""
    try:
        return read(text)
    except UserError as error:
        raise UserError(f"{option}: {error}") from error


def _exact(text: str | float, powers: Mapping[str, int], what: str, said: str) -> Decimal:
    """Return a number times the power of ten that its unit stands for."""
    number, unit = _split(text, what, said)
    if unit not in powers:
        raise UserError(f"{text!r} is no {what}: {said}.")
    return number.scaleb(powers[unit])


def _split(text: str | float, what: str, said: str) -> tuple[Decimal, str]:
    """Return number and unit; three digits of an exponent are enough for any of them."""
    pattern = r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?)\s*([^\s\d]*)"
    match = re.fullmatch(pattern, str(text).strip().casefold())
    if match is None:
        raise UserError(f"{text!r} is no {what}: {said}.")
    return Decimal(match[1]), match[2]
