"""The rules of a search, by a clock that is not the real one; resumed, it ends the same."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console

from compress.analysis.budget import Budget
from compress.analysis.choose import choose
from compress.recipe.dump import recipe_text
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe, chosen
from compress.results.search import Trial
from compress.search.journal import Journal
from compress.search.lab import with_teachers
from compress.search.order import in_order
from compress.search.run import _asked, _pick, search_recipe
from compress.search.schedule import rungs
from compress.search.target import refuse_met
from compress.search.trials import Trials
from compress.utils.errors import StorageFailed, UserError
from compress.utils.files import telling_full_disk
from compress.utils.progress import Progress
from compress.workflow.shared import Shared
from tests.result_factory import result
from tests.search.laboratory import (
    ACCURACIES,
    BUDGET,
    SPEEDUPS,
    TRAIN,
    Killed,
    Recorded,
    lab,
    student,
    trials,
)


def test_what_needs_no_training_comes_first_and_nothing_slow_is_trained(
    recipe: Recipe, tmp_path: Path
) -> None:
    recorded = lab(recipe)
    searched = trials(recipe, recorded, tmp_path)
    searched.run()
    found = searched.journal.trials()
    assert [x.family for x in found[:4]] == ["int8", "pruned", "slow", "small"]
    assert {x.family for x in found if x.state == "slow"} == {"slow"}
    assert not any(candidate.startswith("slow") for candidate, _ in recorded.done)
    assert "3.00 times faster where 5 times are asked for" in next(
        x.why for x in found if x.state == "slow"
    )
    assert "int8" not in recorded.timings  # it is not trained: timing it first would be no use


def test_schedules_are_continued_and_the_first_of_a_family_goes_all_the_way(
    recipe: Recipe, tmp_path: Path
) -> None:
    recorded = lab(recipe)
    trials(recipe, recorded, tmp_path).run()
    first = next(candidate for candidate, _ in recorded.done if candidate.startswith("pruned"))
    assert [epochs for name, epochs in recorded.done if name == first] == [1, 3, 9]


def test_what_cannot_reach_what_is_needed_is_stopped(recipe: Recipe, tmp_path: Path) -> None:
    poor = ACCURACIES | {"small": 0.3} | {f"small-lr-{lr:g}": 0.3 for lr in (2e-3, 3e-3, 4e-3)}
    searched = trials(recipe, Recorded(recipe, SPEEDUPS, poor | {"small-lr-0.001": 0.3}), tmp_path)
    searched.run()
    small = [x for x in searched.journal.trials() if x.family == "small"]
    assert small[0].state == "complete"
    assert {x.state for x in small[1:]} <= {"stopped"}
    for stopped in small[1:]:
        assert "are needed" in stopped.why or "promise more" in stopped.why


def test_it_ends_when_the_target_is_shown_to_be_met(recipe: Recipe, tmp_path: Path) -> None:
    good = ACCURACIES | {"pruned": 0.84}
    searched = trials(recipe, Recorded(recipe, SPEEDUPS, good), tmp_path)
    assert "meets the budget with" in searched.run()
    assert len(searched.journal.trials()) < len(recipe.candidates)
    picked = searched.judged.choice().picked
    assert picked is not None and picked.candidate.startswith("pruned")
    assert searched.picks()[-1].candidate == picked.candidate


def test_it_ends_when_the_time_is_up_and_goes_on_with_more(recipe: Recipe, tmp_path: Path) -> None:
    recorded = lab(recipe)
    first = trials(recipe, recorded, tmp_path, within_s=300)
    assert first.run().startswith("The time is up")
    assert recorded.clock() <= 300 + 9 * recorded.seconds_an_epoch
    done = list(recorded.done)
    more = trials(recipe, recorded, tmp_path, within_s=600)
    more.run()
    assert recorded.done[: len(done)] == done and len(set(recorded.done)) == len(recorded.done)


def test_a_failing_candidate_is_one_row(recipe: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    searched = trials(recipe, lab(recipe, failing=("int8",)), tmp_path, said=said)
    searched.run()
    failed = [x for x in searched.journal.trials() if x.state == "failed"]
    assert [x.candidate for x in failed] == ["int8"] and "cannot be made here" in failed[0].why
    assert any("int8 failed" in line for line in said)


@dataclass
class Full(Recorded):
    """A lab on a disk that is full once so many candidates were timed or trained."""

    left: int = 0

    def _work(self, seconds: float) -> None:
        with telling_full_disk(Path("here")):
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        super()._work(seconds)


@pytest.mark.parametrize("left", range(4))
def test_on_a_full_disk_it_ends_and_no_candidate_has_failed(
    left: int, recipe: Recipe, tmp_path: Path
) -> None:
    searched = trials(recipe, Full(recipe, SPEEDUPS, ACCURACIES, left=left), tmp_path)
    with pytest.raises(StorageFailed, match="The disk is full"):
        searched.run()
    begun = searched.journal.trials()
    assert begun[-1].state == "begun" and not any(x.state == "failed" for x in begun)
    again = trials(recipe, lab(recipe), tmp_path)
    again.run()
    trial = again.journal.trials()[len(begun) - 1]
    assert trial.candidate == begun[-1].candidate and trial.state in ("complete", "slow")


class Fickle(MemoryFileSystem):
    """A file system that takes so many files more, and then none."""

    protocol = "fickle"
    left = 0

    def put_file(self, *given: Any, **more: Any) -> None:
        if self.left == 0:
            raise TimeoutError("no answer")
        self.left -= 1
        super().put_file(*given, **more)


register_implementation("fickle", Fickle, clobber=True)


@pytest.mark.parametrize("left", [0, 1], ids=["when one has ended", "when the next is timed"])
def test_a_store_that_fails_ends_it_with_its_sentence(
    left: int, recipe: Recipe, tmp_path: Path
) -> None:
    shared = Shared(f"fickle://{tmp_path.name}")
    searched = trials(recipe, lab(recipe), tmp_path, shared=shared)
    shared._fs.left = left
    with pytest.raises(StorageFailed, match=r"fickle://.* cannot be used: no answer"):
        searched.run()
    assert [x.state for x in searched.journal.trials()] == ["complete", "begun"][: left + 1]
    shared._fs.left = 1000
    searched.run()
    assert not any(x.state in ("begun", "failed") for x in searched.journal.trials())


def test_a_line_tells_what_another_hour_would_bring(recipe: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    trials(recipe, lab(recipe), tmp_path, said=said).run()
    assert "another hour would try about" in said[-1] and "candidates tried" in said[-1]


def test_killed_at_random_it_ends_with_the_same_trials(recipe: Recipe, tmp_path: Path) -> None:
    undisturbed = trials(recipe, lab(recipe), tmp_path / "whole", within_s=1500)
    undisturbed.run()
    kills, killed, now_s, done = random.Random(3), 0, 0.0, []
    while True:
        recorded = lab(recipe, kills=kills if killed < 20 else None, now_s=now_s)
        again = trials(recipe, recorded, tmp_path / "killed", within_s=1500)
        try:
            again.run()
            break
        except Killed:
            killed += 1
            now_s = recorded.now_s + 1000  # whatever time passes before it is begun again
        finally:
            done += recorded.done
    assert killed == 20
    assert len(set(done)) == len(done)  # nothing was done twice
    assert told(again.journal.trials()) == told(undisturbed.journal.trials())
    assert again.picks() == undisturbed.picks()


def told(found: list[Trial]) -> list[dict[str, Any]]:
    return [trial.model_dump() for trial in found]


def test_another_search_in_its_folder_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    Journal(tmp_path / "journal", in_order(recipe), 0, "one")
    with pytest.raises(UserError, match="of another search"):
        Journal(tmp_path / "journal", in_order(recipe), 0, "another")
    (tmp_path / "damaged").write_text("not a journal\n")
    with pytest.raises(UserError, match="cannot be read as the journal"):
        Journal(tmp_path / "damaged", in_order(recipe), 0, "one")


def test_a_search_is_another_when_images_weights_or_code_are(
    shapes: Path,
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, code = tmp_path / "images", tmp_path / "searched_nets.py"
    shutil.copytree(shapes, images)
    code.write_text("def small(num_classes): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    files = [tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"]
    for file in files:
        file.write_text(file.name)
    teacher = {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "weights": str(files[0])}
    begun = {"weights": str(files[1]), "mean": [0.5] * 3, "std": [0.5] * 3}
    written = {
        "name": "s",
        "data": {"path": str(images)},
        "teacher": teacher,
        "candidates": {"a": student(**begun), "b": student(student="searched_nets:small")},
    }
    recipe = load_recipe(write_recipe(written), allowed=["searched_nets"])

    def asked() -> str:
        return _asked(recipe, BUDGET, ["searched_nets"])

    out = tmp_path / "out"
    path = out / "runs" / "s" / "search.journal"
    Journal(path, in_order(recipe), 0, first := asked())
    assert asked() == first
    changed = [first]
    for file in (next(images.rglob("*.png")), *files, code):
        file.write_bytes(file.read_bytes() + b"\n")
        changed.append(asked())
    assert len(set(changed)) == 5
    with pytest.raises(UserError, match="of another search"):
        search(recipe, BUDGET, out, ["searched_nets"])


def test_a_store_has_the_journal_for_whoever_goes_on_elsewhere(
    recipe: Recipe, tmp_path: Path
) -> None:
    shared = Shared(str(tmp_path / "store"))

    def begun(here: str) -> Trials:
        return trials(recipe, lab(recipe), tmp_path / here, within_s=200, shared=shared)

    begun("here").run()
    there = begun("there")
    known = there.journal.trials()
    assert [x.state for x in known[:2]] == ["complete", "complete"]
    late = begun("late")
    late.lab.time_is_up = True  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"The time was up while .* again.* give more --within"):
        late.run()
    there.judged.load(known)  # no file of theirs is here: what they had is measured again
    assert {x.candidate for x in there.judged.rows() if x.role != "teacher"} >= {"int8"}


def test_lists_within_items_of_a_list_are_searched_too(
    shapes: Path, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    losses = [{"name": "dkd", "beta": [1, 2]}, {"name": "kd"}]
    teacher = {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": TRAIN}
    written = {"name": "s", "data": {"path": str(shapes)}, "teacher": teacher}
    for order in (losses, losses[::-1]):
        candidates = {"small": student(loss=order)}
        recipe = load_recipe(write_recipe(written | {"candidates": candidates}))
        file = tmp_path / order[0]["name"]
        journal = Journal(file, in_order(recipe), 0, "the same")
        tried = []
        while (trial := journal.next()) is not None:
            tried.append(trial.candidate)
            trial.end("complete", "", 0.5)
        assert sorted(tried) == sorted(recipe.candidates) and len(tried) == 3


def search(recipe: Recipe, budget: Budget, out: Path, allowed: Sequence[str] = ()) -> None:
    quiet = Progress(Console(quiet=True))
    search_recipe(recipe, budget, 60, out, lambda _: quiet, print, "", allowed)


def test_a_runtime_that_nothing_is_measured_in_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="measures in onnxruntime: add it to"):
        search(recipe, Budget(speedup=2, runtime="openvino"), tmp_path)
    assert not (tmp_path / "runs").exists()


def test_what_the_teacher_meets_is_not_searched_for() -> None:
    teacher = result("teacher", role="teacher", latency_s=0.019)
    with pytest.raises(UserError, match=r"teacher in onnxruntime meets this as it is: .*--speedup"):
        refuse_met(choose([teacher], Budget(latency_s=0.02)))
    refuse_met(choose([teacher], Budget(latency_s=0.01)))


@pytest.fixture
def school(shapes: Path, write_recipe: Callable[..., Path]) -> Recipe:
    """A recipe whose candidates learn from each other."""
    candidates = {
        "other": student(),
        "big": student(),
        "middle": student(teacher=["teacher", "big"]),
        "small": student(teacher="middle"),
    }
    teacher = {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": TRAIN}
    written = {"name": "s", "data": {"path": str(shapes)}, "teacher": teacher}
    return load_recipe(write_recipe(written | {"candidates": candidates}))


def test_the_pick_brings_what_it_learns_from(school: Recipe, tmp_path: Path) -> None:
    pick = _pick(school, BUDGET, {"small": school.candidates["small"]}, "small")
    assert set(pick.candidates) == {"small", "middle", "big"}
    path = tmp_path / "pick.yaml"
    path.write_text(recipe_text(pick, tmp_path, "The pick."))
    assert load_recipe(path).candidates == pick.candidates


def test_no_controls_are_trained_of_those_that_others_learn_from(school: Recipe) -> None:
    for rung in rungs(school.candidates["small"]):
        found = with_teachers({"small": rung.chain}, school)
        assert set(found) == {"small", "middle", "big"}
        steps = [chosen(step) for chain in found.values() for step in chain]
        assert not any(settings.control for _, settings in steps)
