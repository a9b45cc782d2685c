"""A profile in a terminal: 100 columns, the answer last, where the eye is."""

import sys
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from compress.profile import tables
from compress.profile.records import Profile
from compress.report.text import plain

MOST_LAYERS = 15
WIDTH = 100


def show(profile: Profile, console: Console | None = None) -> None:
    """Prints all tables, the notes and the advice."""
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    _say(console, tables.heading(profile), "bold")
    if profile.limits:
        _say(console, tables.limits_line(profile.limits), "dim")
    for table in tables.tables(profile, MOST_LAYERS):
        console.print()
        console.print(_table(table))
        if table.note:
            _say(console, table.note, "dim")
    for note in profile.notes:
        _say(console, f"Note: {note}", "yellow")
    if profile.advice:
        console.print()
        _say(console, "What to try first", "bold")
    for number, sentence in enumerate(profile.advice, 1):
        _say(console, f"{number}. {sentence}", "")


def _say(console: Console, text: str, style: str) -> None:
    console.print(Text(plain(text), style))


def _table(table: tables.Table) -> RichTable:
    made = RichTable(
        title=Text(table.title, "bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading, numeric in zip(table.headings, table.numeric, strict=True):
        made.add_column(
            "\n".join(wrap(heading, 10)) if numeric else heading,
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    for row in table.rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made
