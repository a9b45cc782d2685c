"""A measured value with its uncertainty."""

from compress.utils.record import Record


class Interval(Record):
    """A value with its confidence interval; who measures says how each is computed."""

    value: float
    low: float
    high: float
    confidence: float = 0.95
