"""`results.jsonl`: a line for each `Result`; it is only ever added to."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from compress.errors import UserError
from compress.files import write_text
from compress.results import Result

RESULTS_FILE = "results.jsonl"


@dataclass(frozen=True)
class Results:
    """What one file holds; `damaged` names the lines that could not be read."""

    path: Path
    rows: list[Result]
    damaged: list[str]


def append(path: Path, results: list[Result]) -> None:
    """Adds one line per result; what was there stays whole even on a full disk."""
    before = path.read_text("utf-8") if path.is_file() else ""
    lines = [result.model_dump_json() + "\n" for result in results]
    write_text(path, before + "".join(lines))


def read(path: Path) -> Results:
    """Reads a `results.jsonl`, or the one in a report or run folder.

    The newest line of each (run, candidate, runtime) of the newest run counts: the file is
    append-only. A damaged line is named and the rest is used.

    Raises:
        UserError: no results there, or none that can be read.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path} holds no {RESULTS_FILE}: give a folder that `compress run` wrote "
            "(runs/<recipe> or reports/<recipe>)."
        )
    rows: list[Result] = []
    damaged: list[str] = []
    for number, line in enumerate(file.read_text("utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(Result.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(x) for x in first["loc"])
            damaged.append(f"{file}:{number}: {where + ': ' if where else ''}{first['msg']}")
    if not rows:
        reason = f" (first damaged line: {damaged[0]})" if damaged else ""
        raise UserError(f"{file} holds no results{reason}: run the recipe again.")
    newest = {row.recipe: row.run for row in rows}
    kept = {
        (row.recipe, row.candidate, row.artifact.runtime): row
        for row in rows
        if newest[row.recipe] == row.run
    }
    return Results(path=file, rows=list(kept.values()), damaged=damaged)
