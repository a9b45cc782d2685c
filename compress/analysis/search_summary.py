"""The summary of a search: chosen by the images that it searched with, shown on the others."""

from collections.abc import Sequence
from dataclasses import replace

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice, choose
from compress.analysis.summary import Summary, summarise
from compress.results.schema import Result
from compress.results.search import Search


def summarise_search(
    rows: Sequence[Result], search: Search | None, budget: Budget | None = None
) -> Summary:
    """Return what the rows say together; which of them the budget asks for, the searched images do.

    Choosing by the images that are to prove the choice would flatter it again.

    Args:
        rows: of the last picks and the teacher, by images that no decision was made by.
        search: that they are of; None: they are of none, and all is asked of themselves.
    """
    summary = summarise(rows, budget)
    if budget is None or search is None or not search.searched:
        return summary
    return replace(summary, choice=_shown(choose(search.searched, budget), rows))


def _shown(choice: Choice, rows: Sequence[Result]) -> Choice:
    """Return the choice with the numbers of other rows of the same files, and words that say so."""
    known = {row.key: row for row in rows}

    def shown(row: Result | None) -> Result | None:
        return None if row is None else known.get(row.key, row)

    by = choice.picked or choice.nearest_miss
    said = f"By the {by.accuracy.images} images that it was searched by: " if by else ""
    return replace(
        choice,
        picked=shown(choice.picked),
        runner_up=shown(choice.runner_up),
        next_faster=shown(choice.next_faster),
        next_more_accurate=shown(choice.next_more_accurate),
        nearest_miss=shown(choice.nearest_miss),
        why=said + choice.why,
        why_in_short=said + choice.why_in_short,
        misses=[said + miss for miss in choice.misses],
        warnings=[said + warning for warning in choice.warnings],
    )
