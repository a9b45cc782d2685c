"""What a whole search says and refuses, in a lab that answers from a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import compress.search.run
from compress.analysis.budget import Budget
from compress.cli.search import _show
from compress.recipe.dump import recipe_text
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.report.write import budget_of
from compress.results.schema import Result
from compress.search.ceiling import Ceiling
from compress.search.lab import Validation
from compress.search.run import Found, search_recipe
from compress.search.schedule import Rung
from compress.utils.errors import NothingFits, UserError
from compress.utils.progress import Progress
from tests.result_factory import result
from tests.search.laboratory import ACCURACIES, BUDGET, IMAGES, SPEEDUPS, Recorded

GOOD = ACCURACIES | {"pruned": 0.84, "small": 0.83} | {x: 0.83 for x in ACCURACIES if "lr" in x}
PLENTY = {"onnxruntime": Ceiling(speedup=100, latency_s=1e-4, max_memory_bytes=50_000_000)}


@dataclass
class Laboratory(Recorded):
    """All of a lab: the last picks are as fast as a second table says."""

    finally_: dict[str, float] = field(default_factory=dict)  # speedups by family
    steps: list[str] = field(default_factory=list)
    labels: Sequence[int] = (0, 1) * (IMAGES // 2)
    is_made: bool = False

    progress = Progress(Console(quiet=True))

    def images(self) -> Validation:
        self.steps.append("images")
        spec = self.recipe.teacher.input_spec("crop", classes=("a", "b", "c"))
        return Validation(list(self.labels), spec)

    def teacher_is_made(self) -> bool:
        return self.is_made

    def untrained_teacher(self, *_: Any) -> Path:
        self.steps.append("untrained")
        return Path("untrained.onnx")

    def teacher_file(self) -> Path:
        self.steps.append("file")
        return Path("teacher.onnx")

    def teacher(self, run: str = "teacher") -> list[Result]:
        self.steps.append("teacher")
        return super().teacher(run)

    def together(self, chains: dict[str, Any]) -> list[Result]:
        self.speedups = self.speedups | self.finally_
        rows = super().teacher("last")
        for shown in chains:
            candidate, _, epochs = shown.removesuffix("-epochs").partition("-after-")
            rung = Rung(int(epochs or 9), 0, [])
            rows.append(self.trained(candidate, rung, shown)[-1].model_copy(update={"run": "last"}))
        return rows


@pytest.fixture
def search(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Found]:
    def searched(
        laboratory: Laboratory,
        budget: Budget = BUDGET,
        within_s: float = 1e6,
        name: str = "s",
        **given: Any,
    ) -> Found:
        asked = given.pop("recipe", recipe).model_copy(update={"name": name})
        monkeypatch.setattr(compress.search.run, "StageLab", lambda *_: laboratory)
        monkeypatch.setattr(compress.search.run, "ceilings", lambda *_: PLENTY)
        monkeypatch.setattr(compress.search.run, "monotonic", laboratory.clock)
        said = given.pop("said", []).append
        quiet = Progress(Console(quiet=True))
        return search_recipe(
            asked, budget, within_s, tmp_path, lambda _: quiet, said, "compress search", **given
        )

    return searched


def laboratory(recipe: Recipe, accuracies: dict[str, float] = GOOD, **given: Any) -> Laboratory:
    return Laboratory(recipe, given.pop("speedups", SPEEDUPS), accuracies, **given)


def test_it_is_chosen_again_when_all_were_timed_together(
    recipe: Recipe, search: Callable[..., Found]
) -> None:
    # By the quick timing the more accurate one is just fast enough; by the full one it is not.
    found = search(laboratory(recipe, finally_={"pruned": 4.9}), Budget(speedup=5))
    assert found.choice.picked is not None and found.pick is not None
    assert found.choice.picked.candidate.startswith("small") and found.holds
    assert found.search.picks[-2].candidate.startswith("pruned")
    assert found.search.picks[-1].candidate == found.choice.picked.candidate
    assert found.choice.picked.candidate in found.pick.candidates


def test_a_teacher_that_meets_it_when_timed_again_is_the_pick(
    recipe: Recipe, search: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines change; what was searched for hours is told all the same."""
    lab = laboratory(recipe)
    faster = result("teacher", role="teacher", latency_s=0.034, top1=0.9, images=IMAGES)
    monkeypatch.setattr(lab, "together", lambda _: [faster])
    found = search(lab, Budget(latency_s=0.035))
    assert found.choice.picked is not None and found.choice.picked.role == "teacher"
    assert found.holds and found.pick is None and found.search.trials


def test_where_nothing_is_fast_enough_there_is_a_report_and_the_exit_code_is_3(
    recipe: Recipe, search: Callable[..., Found], tmp_path: Path
) -> None:
    only = recipe.model_copy(
        update={"candidates": {k: v for k, v in recipe.candidates.items() if k != "int8"}}
    )
    slow = laboratory(only, speedups=dict.fromkeys(SPEEDUPS, 2.0) | {"small": 3.0})
    found = search(slow, recipe=only)
    assert found.choice.picked is None and not found.holds and found.pick is None
    assert {row.role for row in found.rows} == {"teacher"}
    with pytest.raises(NothingFits, match=r"The fastest seen is small-.* 3.00 times as fast"):
        _show(only, BUDGET, found, tmp_path / "shown", Console(quiet=True))
    text = (tmp_path / "shown" / "reports" / "s" / "report.md").read_text()
    assert "## What was tried" in text and "too slow" in text


def test_where_every_candidate_fails_the_reasons_are_told(
    recipe: Recipe, search: Callable[..., Found], tmp_path: Path
) -> None:
    failing = laboratory(recipe, failing=tuple(recipe.candidates))
    found = search(failing)
    with pytest.raises(NothingFits, match="int8 cannot be made here"):
        _show(recipe, BUDGET, found, tmp_path / "shown", Console(quiet=True))


def test_the_pick_asks_for_what_was_asked_for(
    recipe: Recipe, search: Callable[..., Found], tmp_path: Path
) -> None:
    asked = Budget(speedup=5, max_accuracy_drop=0.03, latency_s=0.02, max_bytes=6e6)
    found = search(laboratory(recipe), asked)
    assert found.pick is not None
    path = tmp_path / "pick.yaml"
    path.write_text(recipe_text(found.pick, tmp_path, "The pick."))
    assert budget_of(load_recipe(path)) == asked
    other = search(laboratory(recipe), Budget(speedup=5, min_accuracy=0.7), name="other")
    assert other.pick is not None and other.pick.budget is None
    assert "an accuracy of at least 70 %" in other.pick.description


def test_what_needs_no_teacher_is_refused_before_it_is_trained(
    recipe: Recipe, search: Callable[..., Found], tmp_path: Path
) -> None:
    few = laboratory(recipe, labels=[0, 1] * 9)
    with pytest.raises(UserError, match="18 validation images"):
        search(few)
    assert few.steps == ["images"]
    far = laboratory(recipe)
    with pytest.raises(UserError, match=r"--speedup 200 times cannot be met: with no network at"):
        search(far, Budget(speedup=200), name="far")
    assert far.steps == ["images", "untrained"]
    empty = laboratory(recipe)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        search(empty, confirm_with=tmp_path / "empty", name="empty")
    assert empty.steps == ["images"]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(latency_s=5e-5), "--latency 0.05 ms cannot be met: .* the latency is 0.100 ms in"),
        (Budget(max_memory_bytes=1e6), "--max-memory 1 MB cannot be met: .* the memory is 50"),
    ],
)
def test_other_bounds_that_no_network_at_all_would_meet(
    budget: Budget, said: str, recipe: Recipe, search: Callable[..., Found]
) -> None:
    with pytest.raises(UserError, match=said):
        search(laboratory(recipe), budget)


def test_trials_leave_the_time_that_the_last_picks_need(
    recipe: Recipe, search: Callable[..., Found]
) -> None:
    # 10 s for int8, 5 + 10 + 30 + 70 for the first of the pruned: the last rung would end at 125.
    found = search(laboratory(recipe), within_s=130)
    assert found.search.ended.startswith("The time is up")
    assert max(x.begun_s + x.seconds for t in found.search.trials for x in t.pieces) <= 117


def test_stopped_by_a_key_it_says_the_pick_and_keeps_its_time(
    recipe: Recipe, search: Callable[..., Found]
) -> None:
    stopped, said = laboratory(recipe), []  # type: tuple[Laboratory, list[str]]
    timed = stopped.timed

    def key(candidate: str) -> Any:
        if candidate.startswith("slow"):
            stopped.now_s += 30
            raise KeyboardInterrupt
        return timed(candidate)

    stopped.timed = key  # type: ignore[method-assign]
    hard = Budget(speedup=5)
    with pytest.raises(KeyboardInterrupt):
        search(stopped, hard, said=said)
    assert "pick: pruned" in said[-1] and "--within 1s the same command" in said[-1]
    went_on = laboratory(recipe, now_s=5000.0)
    ended = search(went_on, hard, within_s=1)
    assert ended.search.spent_s >= 155 and ended.choice.picked is not None
