"""What notebooks show of results and choices."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.api import Results, choose, front, load_results
from compress.results.file import append
from compress.utils.errors import UserError
from tests.result_factory import result

ROWS = [
    result("teacher", role="teacher", latency_s=0.04, top1=0.82, speedup=None),
    result("slow<script>alert(1)</script>", latency_s=0.008, top1=0.81, drop=0.01, speedup=5),
    result("small & quick", latency_s=0.002, top1=0.7, drop=0.12, speedup=20),
]


def cells(html: str) -> list[list[str]]:
    rows = re.findall("<tr>(.*?)</tr>", html)
    return [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def shown(value: Any) -> str:
    return value._repr_html_()  # type: ignore[no-any-return]


def test_a_list_of_results_is_the_main_table_fastest_first() -> None:
    heading, *rows = cells(shown(Results(ROWS)))
    assert heading[1:3] == ["candidate", "runtime"]
    slow = "slow&lt;script&gt;alert(1)&lt;/script&gt;"
    assert [row[1].split(",")[0] for row in rows] == ["small &amp; quick", slow, "teacher"]
    assert all(len(row) == len(heading) for row in rows)
    assert [row[0] for row in rows] == ["★"] * 3
    assert "<script" not in shown(Results(ROWS))
    assert shown(Results([])) == "<p>No results.</p>"


def test_one_result_is_a_row() -> None:
    heading, row = cells(shown(ROWS[2]))
    assert row[1] == "small &amp; quick" and row[heading.index("MB")] == "5.00"


def test_a_choice_says_what_and_why() -> None:
    html = shown(choose(ROWS, speedup="4x", max_accuracy_drop="2%"))
    assert "pick" in cells(html)[1][0] and "&lt;script&gt;" in cells(html)[1][1]
    assert "<p>" in html and "<script" not in html
    nothing = shown(choose(ROWS, speedup="400x"))
    assert "<p>Nothing fits.</p>" in nothing and "--speedup" in nothing


def test_the_front_is_drawn() -> None:
    assert front(ROWS)._repr_svg_().startswith("<svg")


def test_results_are_read_from_folders(tmp_path: Path) -> None:
    append(tmp_path / "results.jsonl", ROWS)
    assert len(load_results([str(tmp_path)])) == 3
    with pytest.raises(UserError, match="--speedup: 'fast' is no speedup"):
        choose(ROWS, speedup="fast")


def test_importing_the_interface_imports_no_torch() -> None:
    code = (
        "import compress.api, sys\n"
        "assert not {'torch', 'onnxruntime', 'scipy', 'altair'} & set(sys.modules)\n"
        "assert compress.api.predict.__name__ == 'predict_files'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
