"""Candidates that failed: rows without numbers."""

from collections.abc import Sequence

from compress.analysis.controls import role
from compress.results.schema import Failure
from compress.utils.text import plain
from compress.utils.text_table import TextTable


def failure_table(failed: Sequence[Failure]) -> TextTable:
    """Return a line each; the words are somebody's."""
    return TextTable(
        title="Failed",
        meaning="These could not be made or measured. The next run tries them again.",
        headings=["candidate", "role", "reason"],
        rows=[[x.candidate, role(x) or x.role, plain(x.reason)] for x in failed],
        words=3,
    )


def failure_line(failure: Failure) -> str:
    """Say it for a terminal, which shows it as it is."""
    return plain(f"Failed: {failure.candidate} of {failure.recipe}: {failure.reason}")
