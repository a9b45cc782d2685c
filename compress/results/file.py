"""`results.jsonl`: a line for each `Result` and `Failure`; it is only ever added to."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from compress.results.schema import Failure, Result, RowKey
from compress.utils.errors import UserError
from compress.utils.files import write_text

RESULTS_FILE = "results.jsonl"


@dataclass(frozen=True)
class Results:
    """What one file holds; `damaged` names the lines that could not be read."""

    path: Path
    rows: list[Result]
    failed: list[Failure]
    damaged: list[str]


def append(path: Path, results: Sequence[Result], failed: Sequence[Failure] = ()) -> None:
    """Adds one line per result; what was there stays whole even on a full disk."""
    before = path.read_text("utf-8", errors="surrogateescape") if path.is_file() else ""
    if before and not before.endswith("\n"):  # a line that somebody cut off spoils no other
        before += "\n"
    write_text(path, before + as_lines(results, failed))


def as_lines(results: Sequence[Result], failed: Sequence[Failure] = ()) -> str:
    """What `read` reads."""
    return "".join(f"{line.model_dump_json()}\n" for line in (*failed, *results))


def read(path: Path) -> Results:
    """Reads a `results.jsonl`, or the one in a report or run folder.

    The newest line of each (run, candidate, runtime) of the newest run counts: the file is
    append-only. So does the newest word on a candidate that failed once. A damaged line is named
    and the rest is used.

    Raises:
        UserError: no results there, or none that can be read.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path} holds no {RESULTS_FILE}: give a folder that `compress run` wrote "
            "(runs/<recipe> or reports/<recipe>)."
        )
    found: list[Result | Failure] = []
    damaged: list[str] = []
    for number, line in enumerate(file.read_text("utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(_parsed(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(x) for x in first["loc"])
            damaged.append(f"{file}:{number}: {where + ': ' if where else ''}{first['msg']}")
    if not any(isinstance(each, Result) for each in found):
        reason = f" (first damaged line: {damaged[0]})" if damaged else ""
        raise UserError(f"{file} holds no results{reason}: run the recipe again.")
    rows, failed = _newest(found)
    if not rows:
        raise UserError(f"{file} holds no results of its newest run: run the recipe again.")
    return Results(file, rows, failed, damaged)


def files_judged(path: Path, data: str) -> set[str]:
    """Return the hashes of all files that a results file has been told of, in whatever run.

    Args:
        data: key of the images that they were judged on.
    """
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    found = set()
    for line in lines:
        with suppress(ValidationError):
            row = _parsed(line)
            if isinstance(row, Result) and row.data == data:
                found.add(row.artifact.sha256)
    return found


def _newest(found: Sequence[Result | Failure]) -> tuple[list[Result], list[Failure]]:
    """Return the lines of the newest runs that no later line takes the place of."""
    runs = {each.recipe: each.run for each in found}
    rows: dict[tuple[str, RowKey], Result] = {}
    failed: dict[tuple[str, str], Failure] = {}
    for each in found:
        recipe, candidate = each.recipe, each.candidate
        if each.run != runs[recipe]:
            continue
        if isinstance(each, Failure):
            failed[recipe, candidate] = each
            rows = {
                key: row
                for key, row in rows.items()
                if (row.recipe, row.candidate) != (recipe, candidate)
            }
        else:
            failed.pop((recipe, candidate), None)
            rows.pop((recipe, each.key), None)  # its place is that of its newest line
            rows[recipe, each.key] = each
    return list(rows.values()), list(failed.values())


def _parsed(line: str) -> Result | Failure:
    try:
        return Failure.model_validate_json(line)
    except ValidationError:
        return Result.model_validate_json(line)
