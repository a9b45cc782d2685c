"""What a rung will take, and what is tried where one does not fit into the time that is left."""

from pathlib import Path

import pytest

from compress.recipe.schema import Recipe
from compress.search.costs import cost_s, next_rung_s
from compress.search.lab import TimeUp
from tests.search.laboratory import lab, trials


@pytest.mark.parametrize(
    ("known", "fixed_s", "expected"),
    [
        ([], 50.0, 0.0),  # nothing is known
        ([(1, 100.0)], 90.0, 160.0),  # timing it untrained took 90 of the 100
        ([(1, 100.0)], 200.0, 100.0),  # or more: of an epoch nothing is known
        ([(1, 100.0), (3, 120.0)], 0.0, 160.0),
        ([(2, 50.0), (4, 30.0)], 0.0, 40.0),  # the longer was faster by chance
        ([(1, 5.0), (3, 30.0)], 0.0, 66.5),  # nothing begins below 0
        ([(0, 8.0)], 5.0, 8.0),  # what does not train
    ],
)
def test_of_a_rung_some_is_taken_once_and_some_for_each_epoch(
    known: list[tuple[int, float]], fixed_s: float, expected: float
) -> None:
    assert cost_s(7, known, fixed_s) == pytest.approx(expected)


def test_what_a_family_takes_once_is_not_multiplied(recipe: Recipe, tmp_path: Path) -> None:
    searched = trials(recipe, lab(recipe, fixed_s=300.0), tmp_path)
    searched.run()
    (first, *_) = [x for x in searched.journal.trials() if x.family == "pruned"]
    begun = first.model_copy(update={"pieces": first.pieces[:3], "state": "begun"})
    assert next_rung_s(recipe, first.candidate, [begun]) == pytest.approx(300 + 7 * 10)


def test_a_rung_that_does_not_fit_ends_its_trial_and_not_the_search(
    recipe: Recipe, tmp_path: Path
) -> None:
    recorded = lab(recipe, seconds_of={"pruned": 1000.0})
    searched = trials(recipe, recorded, tmp_path, within_s=3000)
    assert searched.run().startswith("The time is up: none of the ")
    found = searched.journal.trials()
    left = [x for x in found if x.family == "pruned"]
    assert left and all((x.state, len(x.pieces)) == ("begun", 2) for x in left)
    assert not any(x.state == "begun" for x in found if x.family == "small")
    assert sum(x.family == "small" for x in found) == 4
    done = list(recorded.done)
    more = trials(recipe, recorded, tmp_path)
    more.run()
    assert len(set(recorded.done)) == len(recorded.done) > len(done)
    assert next(x for x in more.journal.trials() if x.family == "pruned").state == "complete"


def test_the_pick_is_kept_however_it_ends(recipe: Recipe, tmp_path: Path) -> None:
    recorded = lab(recipe, seconds_of={"pruned": 1000.0})
    recorded.accuracies = recorded.accuracies | {"pruned": 1.0}
    searched = trials(recipe, recorded, tmp_path, within_s=3000)
    searched.run()
    picked = searched.judged.choice().picked
    assert picked is not None and searched.picks()[-1].candidate == picked.candidate
    assert picked.candidate.endswith("-after-1-epochs")


def test_a_piece_that_is_interrupted_is_one_piece_with_all_its_time(
    recipe: Recipe, tmp_path: Path
) -> None:
    recorded = lab(recipe)
    train = recorded.trained

    def interrupted(*given: object) -> None:
        recorded.now_s += 40
        searched.own.note()  # as after each epoch
        raise TimeUp

    recorded.trained = interrupted  # type: ignore[assignment]
    searched = trials(recipe, recorded, tmp_path)
    assert searched.run() == "The time is up."
    (trial,) = searched.journal.trials()
    assert trial.state == "begun" and trial.seconds == 40
    recorded.trained = train  # type: ignore[method-assign]
    recorded.now_s += 1000
    again = trials(recipe, recorded, tmp_path)
    again.run()
    first = again.journal.trials()[0]
    assert [(x.begun_s, x.seconds) for x in first.pieces] == [(0, 50)]


def test_what_a_failure_took_is_told(recipe: Recipe, tmp_path: Path) -> None:
    recorded = lab(recipe, failing=("int8",), failing_s=25.0)
    searched = trials(recipe, recorded, tmp_path)
    searched.run()
    failed = searched.journal.trials()[0]
    assert (failed.state, failed.seconds) == ("failed", 25)
    assert searched.journal.noted("overhead_s") == 0
