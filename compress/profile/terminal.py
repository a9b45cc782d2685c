"""A profile in a terminal: 100 columns, the answer last, where the eye is."""

import sys
from collections.abc import Sequence
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compress.profile.comparison import Comparison
from compress.profile.comparison_tables import comparison_tables, settings
from compress.profile.records import Profile
from compress.profile.tables import heading, limits_line, tables
from compress.utils.text import plain
from compress.utils.text_table import TextTable

MOST_LAYERS = 15
WIDTH = 100


def show(profile: Profile, console: Console | None = None) -> None:
    """Print all tables, the notes and the advice."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    _say(console, heading(profile), "bold")
    if profile.limits:
        _say(console, limits_line(profile.limits), "dim")
    _show_tables(console, tables(profile, MOST_LAYERS), profile.notes)
    if profile.advice:
        _say(console, "\nWhat to try first", "bold")
    for number, sentence in enumerate(profile.advice, 1):
        _say(console, f"{number}. {sentence}", "")


def show_comparison(found: Comparison, console: Console | None = None) -> None:
    """Print the answer, then what it is made of: layers, causes, doubts."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    _say(console, found.verdict, "bold")
    for sentence in found.explanations:
        _say(console, f"\n{sentence}", "")
    _say(console, "\n" + "\n".join(settings(found)), "dim")
    _show_tables(console, comparison_tables(found, MOST_LAYERS), found.notes)


def _show_tables(console: Console, shown: Sequence[TextTable], notes: Sequence[str]) -> None:
    for number, table in enumerate(shown):
        _say(console, f"\n{table.title}", "bold")
        console.print(_drawn(table))
        # Several tables in a row share a note.
        if table.meaning and table.meaning not in [x.meaning for x in shown[number + 1 :]]:
            _say(console, table.meaning, "dim")
    for note in notes:
        _say(console, f"\nNote: {note}", "yellow")


def _say(console: Console, text: str, style: str) -> None:
    for line in text.split("\n"):
        console.print(Text(plain(line), style))


def _drawn(table: TextTable) -> Table:
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for title, numeric in zip(table.headings, table.numeric, strict=True):
        drawn.add_column(
            "\n".join(wrap(title, 7)) if numeric else title,
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(Text(plain(cell)) for cell in row))
    return drawn
