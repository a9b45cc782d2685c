"""The pick is the searched images' business; the others show its numbers, in every report."""

import json
from pathlib import Path

import pytest

from compress.analysis.budget import Budget
from compress.analysis.search_summary import summarise_search
from compress.cli.choose import choose
from compress.cli.report import report
from compress.report.write import write_report
from compress.results.schema import Result
from compress.results.search import Search
from tests.result_factory import result

ASKED = Budget(speedup=5, max_accuracy_drop=0.02)


def rows(data: str, one: float, other: float) -> list[Result]:
    return [
        result("teacher", role="teacher", data=data, latency_s=0.04),
        result("one", data=data, top1=one, drop=0.8 - one, speedup=8.0),
        result("other", data=data, top1=other, drop=0.8 - other, speedup=9.0),
    ]


def test_other_images_do_not_choose_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = rows("d, kept", 0.77, 0.79)
    search = Search(
        asked=str(ASKED), within_s=1200, spent_s=900, overhead_s=3, ended="The time is up.",
        trials=[], picks=[], proofs=[], said=[], searched=rows("d, searched", 0.80, 0.785),
    )  # fmt: skip
    summary = summarise_search(kept, search, ASKED)
    assert summary.choice is not None and summary.choice.picked is kept[1]
    assert summary.choice.runner_up is kept[2]
    assert summary.choice.why.startswith("By the 400 images that it was searched by: one in")
    assert [row.candidate for row in summary.fitting] == ["other"]
    write_report(summary, tmp_path / "one", "t", search=search)
    assert "## Chosen: one in" in (tmp_path / "one" / "report.md").read_text()
    report([tmp_path / "one"], out=tmp_path / "two", speedup="5", max_accuracy_drop="0.02")
    text = (tmp_path / "two" / "report.md").read_text()
    assert "## Chosen: one in" in text and "Chosen: other" not in text
    assert summarise_search(kept, search).choice is None
    alone = summarise_search(kept, None, ASKED).choice  # of no search: of what they say themselves
    assert alone is not None and alone.picked is kept[2]
    capsys.readouterr()
    choose([tmp_path / "one"], speedup="5", max_accuracy_drop="0.02", as_json=True)
    assert json.loads(capsys.readouterr().out)["picked"]["candidate"] == "one"
