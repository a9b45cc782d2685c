"""What a row is beside a plain candidate, in a word, and what the words in a row mean."""

from collections.abc import Sequence

from compress.results.schema import FROM_SCRATCH, NO_TEACHER, RIGHT, Failure, Result
from compress.runtimes import discover

CONTROL, DROPPED = "control", "dropped"

MEANINGS = {
    NO_TEACHER: "the control, trained or pruned alike but without the teacher.",
    FROM_SCRATCH: "the control, of the same shape and trained alike but from fresh weights.",
    CONTROL: "made like a candidate but for one thing, to see what that is worth.",
    DROPPED: "measured, but not to be deployed: not on the front and never picked; notes say why.",
}


def role(row: Result | Failure) -> str:
    """Return the role in words, of a control its kind; empty for a plain candidate.

    The kinds of methods from outside are told by the name alone.
    """
    if row.role == "control":
        return row.control if row.control in (NO_TEACHER, FROM_SCRATCH) else CONTROL
    return "teacher" if row.role == "teacher" else ""


def beside_name(row: Result) -> list[str]:
    """What must be said beside the candidate's name: its role, unless the name says it, and
    whether it was dropped."""
    own = role(row)
    told = [own] if own and own not in row.candidate else []
    return [*told, DROPPED] if row.dropped is not None else told


def legend(rows: Sequence[Result]) -> list[tuple[str, str]]:
    """The words that these rows need explained, with their meanings."""
    used = {role(row) for row in rows} | {x for row in rows for x in beside_name(row)}
    used |= {row.artifact.runtime for row in rows}
    known = {name: x.meaning for name, x in discover().items() if x.meaning}
    rules = {row.accuracy.points.rule for row in rows if row.accuracy.points}
    return [
        *((RIGHT, f"images in which {rule}.") for rule in sorted(rules)),
        *((word, meaning) for word, meaning in (known | MEANINGS).items() if word in used),
    ]
