"""The benchmark of searching counts each seed once, failures as not held, and goes on honestly."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compress.search.lab import TimeUp
from compress.utils.errors import UserError
from tests.result_factory import result

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_searching", ROOT / "benchmarks" / "search.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "_searching", module)
    monkeypatch.syspath_prepend(ROOT)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RECORDS", tmp_path / "records.jsonl")
    return module


def test_a_seed_is_one_record_and_a_search_that_fails_has_one(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise UserError("The disk is full.")

    monkeypatch.setattr(benchmark, "search_recipe", fails)
    told = {"spent_s": 600.0, "overhead_s": 3.0, "tried": 4, "front": [[1, 0.5]], "pick": None}
    benchmark._keep({"what": "search", "seed": 1, **told})
    for _ in range(2):
        words = ["search", "search", "--seed", "0", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", words)
        benchmark.main()
    records = benchmark._records()
    assert [(x["what"], x["seed"]) for x in records] == [("search", 1), ("search", 0)]
    text = list(benchmark._report(records))
    table = [line for line in text if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "failed: The disk is full." in table[-1] and "| no |" in table[-1]
    assert table[-2].endswith("| 4 | 10.0 | 3.0 | 0.5 |")
    assert any("0 of 2 picks hold" in line for line in text)


def test_at_random_goes_on_with_its_time_and_its_front(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    class Laboratory:
        """Trains two, and is then stopped in the middle of the third."""

        progress = None

        def __init__(self, *given: Any) -> None:
            self._after_epoch = given[5]

        def teacher(self) -> None:
            pass

        def trained(self, name: str, *_: Any) -> list[Any]:
            self._after_epoch()
            if len(trained) == 2:
                trained.append(name)
                raise KeyboardInterrupt
            if len(trained) > 3:
                raise TimeUp
            trained.append(name)
            return [result(name, top1=0.5 + 0.1 * len(trained), speedup=4.0)]

    monkeypatch.setattr(benchmark, "StageLab", Laboratory)
    monkeypatch.setattr(benchmark, "alone", lambda *_: benchmark.alone_on_machine("test of it"))
    with pytest.raises(KeyboardInterrupt):
        benchmark._at_random(0, tmp_path)
    kept = json.loads((tmp_path / "random.json").read_text())
    assert kept["tried"] == trained[:2] and len(kept["front"]) == 2
    again = benchmark._at_random(0, tmp_path)
    assert trained[2] == trained[3]  # the one that was interrupted
    assert again["tried"] == 3 and again["front"][:2] == kept["front"]
    assert again["spent_s"] >= kept["spent_s"] and again["front"][2][0] > kept["front"][1][0]
