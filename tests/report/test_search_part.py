"""A report tells of the search that its rows were found by, and keeps it when it is made again."""

from pathlib import Path

import pytest

from compress.analysis.search_front import front_after
from compress.analysis.summary import summarise
from compress.cli.report import report as command
from compress.report.search import growth
from compress.report.write import write_report
from compress.results.search import FILE, Pick, Piece, Proof, Search, Trial
from compress.utils.errors import UserError
from tests.result_factory import around, result

EVIL = "<script>alert(1)</script>|x"
SEARCH = Search(
    asked="at least 5 times faster",
    within_s=1200,
    spent_s=900,
    overhead_s=3,
    ended="The time is up.",
    trials=[
        Trial(
            number=1,
            candidate="small",
            family="small",
            state="complete",
            why="80.0 % with all its epochs.",
            pieces=[
                Piece(what="timed", begun_s=0, seconds=30, speedup=8),
                Piece(what="trained", begun_s=30, seconds=300, epochs=9, accuracy=0.8, speedup=8),
            ],
        ),
        Trial(number=2, candidate="odd", family="odd", state="failed", why=EVIL, pieces=[]),
    ],
    picks=[Pick(at_s=330, candidate="small", epochs=9, accuracy=0.8, speedup=8)],
    proofs=[
        Proof(
            candidate="small",
            runtime="onnxruntime",
            on="the images kept for this",
            images=200,
            accuracy=around(0.78, 0.05),
            drop=around(0.02, 0.01),
            searched_images=190,
            searched_accuracy=around(0.8, 0.05),
            searched_drop=around(0.005, 0.01),
        )
    ],
    said=[],
)


def test_both_numbers_and_their_difference_are_shown(tmp_path: Path) -> None:
    rows = [result("teacher", role="teacher"), result("small")]
    write_report(summarise(rows), tmp_path / "one", "t", search=SEARCH)
    text = (tmp_path / "one" / "report.md").read_text()
    assert "2.0 (1.0 to 3.0)" in text and "0.5 (-0.5 to 1.5)" in text and "| 1.5 |" in text
    page = (tmp_path / "one" / "report.html").read_text()
    assert 'id="timeline"' in page and EVIL not in page
    assert 'id="growth"' in page and (tmp_path / "one" / "search_front.svg").is_file()
    assert "<script>" not in text
    # Made again, it tells the same.
    command([tmp_path / "one"], out=tmp_path / "two")
    again = (tmp_path / "two" / "report.md").read_text()
    assert text[text.index("## The search") :] == again[again.index("## The search") :]


def test_the_front_is_that_of_what_was_judged_by_then() -> None:
    def trial(name: str, *judged: tuple[float, float, float]) -> Trial:
        pieces = [
            Piece(what="trained", begun_s=at - 1, seconds=1, accuracy=accuracy, speedup=speedup)
            for at, accuracy, speedup in judged
        ]
        return Trial(
            number=1, candidate=name, family=name, state="complete", why=".", pieces=pieces
        )

    trials = [trial("a", (10, 0.5, 4), (30, 0.7, 4)), trial("b", (20, 0.6, 5)), SEARCH.trials[1]]
    search = SEARCH.model_copy(update={"trials": trials})
    assert front_after(search, 9) == []
    assert front_after(search, 10) == [("a", 4, 0.5)]
    assert front_after(search, 25) == [("b", 5, 0.6)]  # more accurate, and faster
    assert front_after(search, 30) == [("b", 5, 0.6), ("a", 4, 0.7)]
    assert growth(SEARCH.model_copy(update={"trials": [SEARCH.trials[1]]})) is None


def test_other_rows_are_not_what_an_earlier_search_found(tmp_path: Path) -> None:
    rows = [result("teacher", role="teacher"), result("small")]
    write_report(summarise(rows), tmp_path, "t", search=SEARCH)
    assert (tmp_path / "search.svg").is_file()
    write_report(summarise(rows), tmp_path, "t")
    assert not list(tmp_path.glob("search*"))


def test_a_damaged_search_is_told(tmp_path: Path) -> None:
    rows = [result("teacher", role="teacher"), result("small")]
    write_report(summarise(rows), tmp_path, "t", search=SEARCH)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(UserError, match="is damaged: search again"):
        command([tmp_path], out=tmp_path / "two")
