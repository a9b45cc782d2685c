"""`compress choose`: which model to serve for a budget."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Annotated

import typer

from compress.analysis.budget import Budget
from compress.analysis.choose import Choice
from compress.analysis.search_summary import summarise_search
from compress.cli.budget_options import takes_budget
from compress.report.choice_screen import screen
from compress.report.failures import failure_line
from compress.results.file import RESULTS_FILE
from compress.results.merge import load, newest_comparable
from compress.results.schema import Result
from compress.results.search import search_of
from compress.utils.errors import NothingFits, UserError
from compress.utils.files import inside
from compress.utils.text import plain


@takes_budget
def choose(
    reports: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Report folders, or one that holds some; without any, the newest report below "
            "./reports and all that are comparable with it."
        ),
    ] = None,
    budget: Budget | None = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="An empty or new folder that gets the model, its class names and preprocessing, "
            "a script that runs it, and a model card."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Also every number in words, and what each other candidate misses."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Pick the most accurate model that meets the budget, and say why. Give one bound or more.

    When nothing fits, says what the nearest candidate misses and what to relax, and exits with
    code 3.
    """
    if budget is None:
        budget = Budget()  # says what can be asked for
    chosen = reports or newest_comparable(default_reports())
    if not reports and not as_json:
        typer.echo(f"Reports: {', '.join(map(str, chosen))}")
    choice = summarise_search(_rows(chosen), search_of(chosen), budget).choice
    assert choice is not None  # something was asked for
    if export is not None and choice.picked is not None:
        _export(choice.picked, choice.why, chosen, export)
    if as_json:
        typer.echo(json.dumps(_as_json(choice), indent=2))
    else:
        for line in _answer(choice, chosen, explain, export):
            typer.echo(line)
    if choice.picked is None:
        raise NothingFits(f"Nothing fits. {plain(' '.join(choice.hints()))}")


def _rows(folders: list[Path]) -> list[Result]:
    """Read the reports; say what could not be read, and what failed."""
    rows, failed, damaged = load(folders)
    for line in damaged:
        typer.echo(f"Left out: {plain(line)}", err=True)
    for failure in failed:
        typer.echo(failure_line(failure), err=True)
    if not any(row.competes for row in rows):
        raise UserError(
            f"Nothing can be chosen from {', '.join(map(str, folders))}: every row was dropped, or "
            "is in torch, which is a reference only. Add a candidate to the recipe and run it."
        )
    return rows


def default_reports(folder: Path = Path("reports")) -> list[Path]:
    """Return every folder below `folder` that holds results.

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


def _export(row: Result, why: str, folders: list[Path], target: Path) -> None:
    # Here: they load the models in their runtime.
    from compress.cascade import bundle as of_cascades
    from compress.export import bundle

    model = _locate(row, folders)
    if model is None:
        path = Path(row.artifact.path)
        remedy = bundle.remedy(row, path)
        raise UserError(plain(f"{path}, the chosen model, is not here. {remedy}"))
    write = bundle.write_bundle if row.pipeline is None else of_cascades.write_bundle
    write(row, model, why, target)


def _answer(
    choice: Choice, folders: list[Path], explain: bool, export: Path | None
) -> Iterator[str]:
    yield from screen(choice, list(_file(choice, folders)))
    if explain:
        yield from map(plain, _explained(choice))
    if export is not None and choice.picked is not None:
        yield f"Exported to {export}: its README.md says how to use it."


def _file(choice: Choice, folders: list[Path]) -> Iterator[str]:
    row = choice.picked
    if row is None:
        return
    file = _locate(row, folders)
    path = os.path.relpath(file) if file else row.artifact.path
    yield f"Model file: {path}{' and the .bin beside it' if path.endswith('.xml') else ''}"
    if file is None:
        yield f"  It is not here; this makes it: {row.command}"


def _explained(choice: Choice) -> Iterator[str]:
    yield ""
    if choice.picked:
        yield f"Why: {choice.why}"
    if choice.runner_up:
        yield f"Runner-up: {choice.runner_up_lost}"
    yield from choice.next_steps
    yield from choice.warnings
    if choice.misses:
        yield f"What {'the others miss' if choice.picked else 'each candidate misses'}:"
        yield from (f"  {line}" for line in choice.misses)


def _locate(row: Result, folders: list[Path]) -> Path | None:
    """Return the model file: below the --out that holds the report, or where the user stands."""
    if PurePath(row.artifact.path).is_absolute():  # no run writes that: nobody asked for this file
        return None
    for folder in folders:
        as_written = Path(os.path.abspath(folder)).parents
        for parent in (Path.cwd(), *as_written, *folder.resolve().parents):
            file = inside(parent, row.artifact.path)
            if file is not None and file.exists():
                return file
    return None


def _as_json(choice: Choice) -> dict[str, object]:
    """Return all that the text says, numbers as they are in the results (SI, fractions)."""
    return {
        "budget": {k: v for k, v in asdict(choice.budget).items() if v is not None},
        "picked": _row(choice.picked),
        "probability": choice.probability,
        "why": choice.why,
        "runner_up": _row(choice.runner_up),
        "runner_up_lost": choice.runner_up_lost,
        "next_steps": choice.next_steps,
        "warnings": choice.warnings,
        "misses": choice.misses,
        "relax": [
            {"option": x.option, "value": x.typed, "candidate": x.row.candidate, "text": x.text}
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
