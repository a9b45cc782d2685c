"""`compress choose`: which model to serve for a budget."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compress.choose import Budget, Choice
from compress.choose import choose as choose_row
from compress.errors import NothingFits, UserError
from compress.report.join import load, newest_comparable
from compress.report.say import name
from compress.report.text import plain
from compress.results import RESULTS_FILE, Result


def choose(
    reports: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Report folders, or one that holds some; without any, the newest report below "
            "./reports and all that are comparable with it."
        ),
    ] = None,
    *,
    speedup: Annotated[
        float, typer.Option(help="Times faster than the teacher in the same runtime, e.g. 10.")
    ],
    max_accuracy_drop: Annotated[
        float,
        typer.Option(help="Accuracy that may be lost, as a fraction: 0.01 is one point."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Pick the most accurate model that is fast enough, and say why.

    When nothing fits, says what each candidate misses and what to relax, and exits with code 3.
    """
    budget = Budget(speedup, max_accuracy_drop)
    chosen = reports or newest_comparable(default_reports())
    if not reports and not as_json:
        typer.echo(f"Reports: {', '.join(map(str, chosen))}")
    rows, damaged = load(chosen)
    for line in damaged:
        typer.echo(f"Left out: {plain(line)}", err=True)
    choice = choose_row(rows, budget)
    if as_json:
        typer.echo(json.dumps(_as_json(choice), indent=2))
    else:
        for line in _lines(choice, chosen):
            typer.echo(plain(line))
    if choice.picked is None:
        raise NothingFits(f"Nothing fits. {plain(' '.join(choice.hints()))}")


def default_reports(folder: Path = Path("reports")) -> list[Path]:
    """Every folder below `folder` that holds results.

    Raises:
        UserError: there is none.
    """
    found = sorted(file.parent for file in folder.rglob(RESULTS_FILE))
    if not found:
        raise UserError(
            f"No {RESULTS_FILE} below ./{folder}: run a recipe first (`compress run "
            "recipes/<recipe>.yaml`), or name a report folder."
        )
    return found


def _lines(choice: Choice, folders: list[Path]) -> Iterator[str]:
    row = choice.picked
    if row is None:
        yield f"Asked: {choice.budget}."
        yield "What each candidate misses:"
        yield from (f"  {line}" for line in choice.misses)
        return
    yield f"Chosen: {name(row)}"
    file = _locate(row, folders)
    path = file or row.artifact.path
    yield f"Model file: {path}{' and the .bin beside it' if path.endswith('.xml') else ''}"
    if file is None:
        yield f"  It is not here; this makes it: {row.command}"
    yield f"Why: {choice.why}"
    if choice.runner_up:
        yield f"Runner-up: {choice.runner_up_lost}"
    yield from choice.warnings
    if choice.misses:
        yield "What the others miss:"
        yield from (f"  {line}" for line in choice.misses)


def _locate(row: Result, folders: list[Path]) -> str | None:
    """The model file from where the user stands: it lies below the --out that holds the report."""
    for folder in folders:
        for parent in (Path.cwd(), *folder.resolve().parents):
            if (parent / row.artifact.path).is_file():
                return os.path.relpath(parent / row.artifact.path)
    return None


def _as_json(choice: Choice) -> dict[str, object]:
    """Everything the text says, with the numbers as they are in the results (SI, fractions)."""
    return {
        "speedup": choice.budget.speedup,
        "max_accuracy_drop": choice.budget.max_accuracy_drop,
        "picked": _row(choice.picked),
        "why": choice.why,
        "runner_up": _row(choice.runner_up),
        "runner_up_lost": choice.runner_up_lost,
        "warnings": choice.warnings,
        "misses": choice.misses,
        "relax": [
            {"option": x.option, "value": x.value, "candidate": x.row.candidate, "text": x.text}
            for x in choice.relaxations
        ],
    }


def _row(row: Result | None) -> dict[str, object] | None:
    if row is None:
        return None
    drop, speedup = row.accuracy.top1_drop, row.speedup
    return {
        "recipe": row.recipe,
        "candidate": row.candidate,
        "role": row.role,
        "runtime": row.artifact.runtime,
        "path": row.artifact.path,
        "sha256": row.artifact.sha256,
        "size_bytes": row.artifact.size_bytes,
        "latency_s": row.latency_s,
        "top1": row.accuracy.top1.model_dump(),
        "top1_drop": drop and drop.model_dump(),
        "speedup": speedup and speedup.model_dump(),
        "command": row.command,
    }
