"""One candidate's failure is one row: the others go on."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from compress.cli import app
from compress.recipe.load import load_recipe
from compress.results.file import append, read
from compress.results.schema import Failure, Result
from compress.utils.errors import SomeFailed, UserError
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe
from tests.conftest import tiny_recipe
from tests.result_factory import result

FACTORIZE = {"factorize": {"ratio": 0.5, "round_to": 4}}
IMPOSSIBLE = {"prune": {"ratio": 0.5, "importance": "magnitude", "ignore": ["no_such_layer"]}}


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def recipe_of(path: Path, shapes: Path, **candidates: list[dict[str, Any]]) -> Path:
    recipe = tiny_recipe(shapes) | {"candidates": candidates}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> tuple[Path, Any]:
    """Three candidates: the first step of one is impossible, the second step of another fails."""
    out = tmp_path_factory.mktemp("out")
    path = recipe_of(
        out / "tiny.yaml",
        shapes,
        early=[IMPOSSIBLE],
        late=[FACTORIZE, IMPOSSIBLE],
        fine=[FACTORIZE],
    )
    return out, invoke("run", path, "--out", out)


def test_the_others_go_on_and_the_exit_code_is_5(ran: tuple[Path, Any]) -> None:
    out, done = ran
    assert isinstance(done.exception, SomeFailed) and done.exception.exit_code == 5
    assert str(done.exception).startswith("Failed: early and late.")
    found = read(out / "reports" / "tiny")
    assert {row.candidate for row in found.rows} == {"teacher", "fine"}
    assert [(x.candidate, x.role) for x in found.failed] == [
        ("early", "candidate"),
        ("late", "candidate"),
    ]
    assert all("no_such_layer" in x.reason for x in found.failed)
    assert read(out / "runs" / "tiny").failed == found.failed


def test_what_is_impossible_is_said_before_the_teacher_is_trained(ran: tuple[Path, Any]) -> None:
    _, done = ran
    said = done.output
    assert said.index("early cannot be made: prune: ") < said.index(": running")
    assert "early: prune" not in said  # no stage of it was begun
    assert "late: prune, decided: failed" in said and "late: prune: done" not in said


def test_failed_rows_are_in_the_table_and_the_report(ran: tuple[Path, Any]) -> None:
    out, done = ran
    assert re.search(r"late +–.*\n +failed", done.output)
    assert "Failed: late of tiny: " in done.output.replace("\n", " ")
    text = (out / "reports/tiny/report.md").read_text("utf-8")
    assert re.search(r"\| late \| candidate \| .*no_such_layer", text)
    page = (out / "reports/tiny/report.html").read_text("utf-8")
    assert re.search(r"<td>late</td><td>candidate</td><td>.*no_such_layer", page)
    joined = invoke("report", out / "reports/tiny", "--out", out / "joined")
    assert joined.exit_code == 0 and "Failed: late of tiny: " in joined.output.replace("\n", " ")
    assert read(out / "joined").failed == read(out / "reports/tiny").failed
    chosen = invoke("choose", out / "reports/tiny", "--speedup", 0.01)
    assert chosen.exit_code == 0 and "Failed: early of tiny: " in chosen.output


def test_a_failed_candidate_is_tried_again_and_nothing_else(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    before = read(out / "runs/tiny")
    lines = (out / "runs/tiny/results.jsonl").read_text()
    again = invoke("run", out / "tiny.yaml", "--out", out)
    assert isinstance(again.exception, SomeFailed)
    assert re.findall(r"^(.*): running", again.output, re.M) == ["late: prune, decided"]
    assert read(out / "runs/tiny") == before
    assert (out / "runs/tiny/results.jsonl").read_text() == lines


def test_check_names_the_key_and_a_run_of_nothing_else_is_refused(
    ran: tuple[Path, Any], tmp_path: Path, shapes: Path
) -> None:
    out, _ = ran
    checked = invoke("check", out / "tiny.yaml")
    assert isinstance(checked.exception, UserError) and checked.exception.exit_code == 2
    assert "candidates.early.0.prune: " in str(checked.exception)
    assert "late" not in str(checked.exception)
    path = recipe_of(tmp_path / "tiny.yaml", shapes, early=[IMPOSSIBLE])
    with pytest.raises(UserError, match=r"candidates\.early\.0\.prune: "):
        run_recipe(load_recipe(path), tmp_path, Progress(Console(quiet=True)), "")
    assert not (tmp_path / "reports").exists()


def test_if_all_fail_there_is_the_teacher(
    ran: tuple[Path, Any], tmp_path: Path, shapes: Path
) -> None:
    out, _ = ran
    path = recipe_of(tmp_path / "tiny.yaml", shapes, late=[FACTORIZE, IMPOSSIBLE])
    done = invoke("run", path, "--out", out, "--set", "name=alone")
    assert isinstance(done.exception, SomeFailed)
    assert {row.role for row in read(out / "reports/alone").rows} == {"teacher"}


def failure(candidate: str, run: str = "new") -> Failure:
    row: Result = result(candidate, run=run)
    return Failure(recipe=row.recipe, run=run, candidate=candidate, role=row.role, reason="no")


def test_the_newest_word_on_a_candidate_counts(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    append(file, [result("a", run="old")], [failure("gone", "old")])
    append(file, [result("a", run="new"), result("c", run="new")], [failure("b")])
    assert [x.candidate for x in read(file).failed] == ["b"]
    append(file, [result("a", run="new"), result("b", run="new")], [failure("c")])
    found = read(file)
    assert [row.candidate for row in found.rows] == ["a", "b"]
    assert [x.candidate for x in found.failed] == ["c"]
