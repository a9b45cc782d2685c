"""Rows of several recipes in one table, or a refusal when they cannot be compared."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from compress.results.file import RESULTS_FILE, read
from compress.results.schema import Failure, Line, Result, Speedup
from compress.utils.errors import UserError


def join(paths: Iterable[Path]) -> list[Result]:
    """Reads run or report folders into one list of comparable rows; see `merge`.

    Raises:
        UserError: a folder without results, or rows that cannot be compared.
    """
    return load(paths)[0]


def load(paths: Iterable[Path]) -> tuple[list[Result], list[Failure], list[str]]:
    """`join`, the candidates that failed, and the lines that could not be read."""
    found = [read(folder) for path in paths for folder in result_folders(path)]
    every = [row for results in found for row in results.rows]
    failed = _last_failed([x for results in found for x in results.failed], every)
    gone = {(x.recipe, _bare(x)): x.run for x in failed}
    rows = merge(row for row in every if gone.get((row.recipe, _bare(row)), row.run) == row.run)
    return rows, failed, [line for results in found for line in results.damaged]


def _last_failed(failed: Iterable[Failure], rows: Sequence[Result]) -> list[Failure]:
    """Return the failures that are the last word on a candidate, each once.

    Those of a recipe's newest run, which has no row of the candidate.
    """
    runs: dict[str, str] = {}
    for row in sorted(rows, key=lambda x: x.measured_at):
        runs[row.recipe] = row.run
    made = {(row.recipe, row.run, _bare(row)) for row in rows}
    return list(
        {
            (x.recipe, _bare(x)): x
            for x in failed
            if runs.get(x.recipe, x.run) == x.run and (x.recipe, x.run, _bare(x)) not in made
        }.values()
    )


def result_folders(path: Path) -> list[Path]:
    """The path itself if it holds results, else every folder below it that does."""
    below = sorted(file.parent for file in path.rglob(RESULTS_FILE)) if path.is_dir() else []
    return below if below and path not in below else [path]


def newest_comparable(folders: Iterable[Path]) -> list[Path]:
    """The folder that was measured last, and those whose rows can be compared with its.

    Raises:
        UserError: none of them can be read.
    """
    dates: dict[Path, str] = {}
    for folder in folders:
        try:
            dates[folder] = max(row.measured_at for row in read(folder).rows)
        except UserError:
            continue
    if not dates:
        raise UserError("No report here can be read: run a recipe again, or name a report folder.")
    dated = sorted(dates, key=lambda folder: dates[folder])
    kept = dated[-1:]
    for folder in reversed(dated[:-1]):
        try:
            load([*kept, folder])
        except UserError:
            continue
        kept.append(folder)
    return kept


def merge(rows: Iterable[Result]) -> list[Result]:
    """Each row once, the newest of it; names that two recipes use get the recipe as prefix.

    A teacher that several recipes share (same file, same runtime) is one row.

    Raises:
        UserError: machine, threads, validation images, or when an image is right differ.
    """
    newest: dict[tuple[str, ...], Result] = {}
    for row in sorted(rows, key=lambda x: x.measured_at):
        newest[_identity(row)] = row
    unique = list(newest.values())
    _refuse_incomparable(unique)
    return _prefixed(unique)


def _identity(row: Result) -> tuple[str, ...]:
    if row.role == "teacher":
        return ("teacher", row.artifact.sha256, row.artifact.runtime)
    return (row.recipe, _bare(row), row.artifact.runtime)


def _bare(line: Line) -> str:
    """Return a candidate's name in its recipe: joined reports may be joined again."""
    return line.candidate.removeprefix(f"{line.recipe}/")


def _refuse_incomparable(rows: list[Result]) -> None:
    conditions: dict[str, dict[str, set[str]]] = {
        "machine": defaultdict(set),
        "threads": defaultdict(set),
        "validation set": defaultdict(set),
        "rule": defaultdict(set),
    }
    for row in rows:
        cpu, cores, runtimes = row.machine.comparable()
        versions = ", ".join(" ".join(pair) for pair in runtimes)  # type: ignore[attr-defined]
        conditions["machine"][f"{cpu}, {cores} cores, {versions}"].add(row.recipe)
        threads = row.at_smallest_batch.threads
        conditions["threads"][f"{threads} at batch 1"].add(row.recipe)
        conditions["validation set"][f"{row.accuracy.images} images of data {row.data}"].add(
            row.recipe
        )
        conditions["rule"][row.accuracy.rule].add(row.recipe)
    for what, found in conditions.items():
        if len(found) > 1:
            sides = "; ".join(f"{value} ({', '.join(sorted(x))})" for value, x in found.items())
            raise UserError(
                f"Results of different {what}s are not comparable: {sides}. "
                "Report them separately: name the folders that belong together."
            )


def _prefixed(rows: list[Result]) -> list[Result]:
    recipes = defaultdict(set)
    for row in rows:
        recipes[row.candidate].add(row.recipe)
    clashing = {name for name, users in recipes.items() if len(users) > 1}

    def renamed(row: Result, name: str) -> str:
        return f"{row.recipe}/{name}" if name in clashing else name

    def against(row: Result, speedup: Speedup | None) -> Speedup | None:
        return speedup and speedup.model_copy(update={"against": renamed(row, speedup.against)})

    return [
        row.model_copy(
            update={
                "candidate": renamed(row, row.candidate),
                "control_of": row.control_of and renamed(row, row.control_of),
                "speedup": against(row, row.speedup),
                "throughput_speedup": against(row, row.throughput_speedup),
                "speedup_as_served": against(row, row.speedup_as_served),
            }
        )
        for row in rows
    ]
