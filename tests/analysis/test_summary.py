"""What a table says as a whole is computed once, and every format shows the same."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.analysis import choose, summary, uncertainty
from compress.analysis.budget import Budget
from compress.analysis.summary import summarise
from compress.report.write import write_report
from compress.results.schema import RowKey
from tests.result_factory import result

ROWS = [
    result("teacher", role="teacher", runtime="torch", latency_s=0.2, top1=0.9),
    result("teacher", role="teacher", latency_s=0.15, top1=0.9),
    result("small", latency_s=0.015, top1=0.85, drop=0.05),
    result("twin", latency_s=0.015, top1=0.85, drop=0.05),
    result("int8", latency_s=0.002, top1=0.9, dropped="It was not faster."),
]


def test_a_report_draws_and_chooses_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def called(*arguments: Any) -> Any:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, called)

    counted(uncertainty, "draw")
    counted(summary, "choose")
    counted(summary, "front_rows")
    write_report(summarise(ROWS, Budget(5, 0.06)), tmp_path, "Once")
    assert sorted(calls) == ["choose", "draw", "front_rows"]


def test_renderers_compute_nothing_of_it() -> None:
    folder = Path(choose.__file__).parents[1] / "report"
    computing = r"from compress\.analysis\.(?:uncertainty|choose|pareto) import (.*)"
    found = {
        (file.stem, name)
        for file in folder.glob("*.py")
        for names in re.findall(computing, file.read_text("utf-8"))
        for name in names.split(", ")
    }
    # The front of another pair of axes than latency and top-1 is the chart's own.
    assert found - {("axes", "pareto_front")} <= {(file, "Choice") for file, _ in found}


def test_all_formats_show_one_probability(tmp_path: Path) -> None:
    made = summarise(ROWS)
    write_report(made, tmp_path, "One")
    lines = list(csv.DictReader((tmp_path / "pareto.csv").open(newline="")))
    for line, row in zip(lines, ROWS, strict=True):
        chance = made.front_probability[row.key]
        assert line["front_probability"] == ("" if chance is None else repr(chance))
    text = (tmp_path / "report.md").read_text("utf-8")
    small = made.front_probability[RowKey("small", "onnxruntime")]
    assert small is not None and f"| small | onnxruntime | {100 * small:.1f} |" in text


def test_what_does_not_compete_is_in_nothing() -> None:
    made = summarise(ROWS, Budget(max_bytes=10**9))
    assert [row.candidate for row in made.front] == ["small", "twin", "teacher"]
    assert [[row.candidate for row in group] for group in made.alike] == [["small", "twin"]]
    assert [row.candidate for row in made.fitting] == ["small", "twin", "teacher"]
    assert [key for key, chance in made.front_probability.items() if chance is None] == [
        RowKey("int8", "onnxruntime"),
        RowKey("teacher", "torch"),
    ]
    assert summarise(ROWS).choice is None and summarise(ROWS).fitting == []


@given(st.permutations(ROWS))
def test_the_order_of_the_results_changes_nothing(rows: list[Any]) -> None:
    asked = Budget(5, 0.06)
    assert summarise(rows, asked).front_probability == summarise(ROWS, asked).front_probability
