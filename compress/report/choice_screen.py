"""A choice in a terminal: one screen of 80 columns."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from compress.analysis.choose import Choice
from compress.analysis.explain import name
from compress.report.choice_table import choice_table
from compress.utils.text import plain

WIDTH = 80
FEW = 3  # misses that are told where none of them is near


def screen(choice: Choice, file: Sequence[str] = ()) -> list[str]:
    """Return the lines: the answer, the table, why, what is in doubt, and where the model is.

    Args:
        file: says where the model is; printed as it is.
    """
    return [*map(plain, _answer(choice)), *map(plain, file)]


def _answer(choice: Choice) -> Iterator[str]:
    if choice.picked is None:
        yield from _wrapped(f"Asked: {choice.budget}.")
        near = [choice.nearest_misses] if choice.nearest_miss else choice.misses[:FEW]
        reasons = [f"{line}." if choice.nearest_miss else line for line in near]
    else:
        yield f"Chosen: {name(choice.picked)}"
        reasons = [f"Why: {choice.why_in_short}", *([choice.doubt] if choice.doubt else [])]
    yield from _table(choice)
    for reason in reasons:
        yield from _wrapped(reason)


def _table(choice: Choice) -> Iterator[str]:
    """Yield what each row is with its numbers, and its name in a line of its own."""
    table = choice_table(choice)
    if not table.rows:
        return
    lines = [[label, *numbers] for label, _, *numbers in (table.headings, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    yield ""
    yield padded[0]
    for line, row in zip(padded[1:], table.rows, strict=True):
        yield line
        yield f"  {row[1]}"
    yield ""


def _wrapped(text: str) -> list[str]:
    return wrap(plain(text), WIDTH, break_long_words=False, break_on_hyphens=False)
