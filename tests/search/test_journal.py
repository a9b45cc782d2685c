"""The journal: killed before any of its writes it ends the same; what Optuna proposes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from compress.recipe.schema import GridPoint, Recipe
from compress.search.journal import Journal
from compress.search.whole_writes import WholeWrites
from tests.search.laboratory import Killed, lab, trials


def test_killed_before_every_write_it_ends_with_the_same_trials(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trials(recipe, lab(recipe), tmp_path / "whole", within_s=600)
    undisturbed.run()
    write, killed, now_s, left = JournalFileBackend.append_logs, 0, 0.0, 0

    def killed_before_one(file: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        write(file, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", killed_before_one)
    while True:
        # That it was opened, that a piece goes on, and one or two more.
        left, recorded = 3 + killed % 2, lab(recipe, now_s=now_s)
        try:
            again = trials(recipe, recorded, tmp_path / "killed", within_s=600)
            again.run()
            break
        except Killed:
            killed += 1
            now_s = recorded.now_s + 1000
    assert killed > len(undisturbed.journal.trials())
    assert {x.state for x in undisturbed.journal.trials()} >= {"complete", "slow"}
    assert again.journal.trials() == undisturbed.journal.trials()
    assert again.picks() == undisturbed.picks()


def test_what_is_decided_together_is_one_write(tmp_path: Path) -> None:
    file = WholeWrites(tmp_path / "file")
    file.append_logs([{"n": 0}])
    with file.at_once():
        file.append_logs([{"n": 1}])
        with file.at_once():
            file.append_logs([{"n": 2}])
        assert [x["n"] for x in file.read_logs(0)] == [0, 1, 2]
        assert [x["n"] for x in file.read_logs(2)] == [2]
        assert (tmp_path / "file").read_text().count("\n") == 1
    with pytest.raises(Killed), file.at_once():
        file.append_logs([{"n": 3}])
        raise Killed
    assert [x["n"] for x in WholeWrites(tmp_path / "file").read_logs(0)] == [0, 1, 2]


def test_what_was_written_half_is_cut_off(recipe: Recipe, tmp_path: Path) -> None:
    first = trials(recipe, lab(recipe), tmp_path, within_s=300)
    first.run()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"op_code":2,"wor')
    again = trials(recipe, lab(recipe), tmp_path, within_s=300)
    assert again.journal.trials() == first.journal.trials()


def points(families: dict[str, list[dict[str, int]]]) -> dict[str, GridPoint]:
    return {
        f"{family}-{i}": GridPoint(family, positions)
        for family, grid in families.items()
        for i, positions in enumerate(grid)
    }


def tried(
    journal: Journal, accuracy: Callable[[str], float] = lambda _: 0.5, most: int = 100
) -> list[str]:
    found: list[str] = []
    while len(found) < most and (trial := journal.next()) is not None:
        found.append(trial.candidate)
        trial.end("complete", "", accuracy(trial.candidate))
    return found


UNEQUAL = [{"loss": 0, "loss.t": 0}, {"loss": 0, "loss.t": 1}] + [
    {"loss": 1, "loss.t": i} for i in range(4)
]


@pytest.mark.parametrize(
    "grid",
    [UNEQUAL, [{"a": 0, "b": 0}, {"a": 1, "b": 1}], [{}], [{"a": i} for i in range(5)]],
    ids=["lists of other lengths", "not every combination", "no list", "a list"],
)
def test_every_point_is_proposed_once(grid: list[dict[str, int]], tmp_path: Path) -> None:
    known = points({"first": grid, "second": [{"x": 0}, {"x": 1}]})
    for seed in range(2):
        found = tried(Journal(tmp_path / f"{seed}", known, seed, "the same"))
        assert sorted(found) == sorted(known)


def test_after_one_of_each_family_it_is_optuna_that_decides(tmp_path: Path) -> None:
    grid = [{"lr": i} for i in range(10)]
    known = points({"good": grid, "bad": grid, "worse": grid})
    value = {"good": 0.9, "bad": 0.3, "worse": 0.1}
    of_good = []
    for seed in range(4):
        journal = Journal(tmp_path / f"{seed}", known, seed, "the same")
        found = tried(journal, lambda name: value[name.split("-")[0]], 10)
        of_good.append(sum(name.startswith("good") for name in found[3:]))
    assert sum(of_good) / len(of_good) > 4  # of 7; at random: 2.3


def test_what_does_not_fit_is_neither_begun_nor_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", points({"a": [{}], "b": [{}]}), 0, "the same")
    first = journal.next(lambda name: name != "a-0")
    assert first is not None and first.candidate == "b-0"
    first.leave()
    assert journal.next(lambda _: False) is None
    again = journal.next()
    assert again is not None and again.candidate == "b-0"
    again.end("complete", "", 0.5)
    assert tried(journal) == ["a-0"]
