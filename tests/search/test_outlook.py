"""When a search ends: as sure as was said, or no use; never with the first that is fast."""

from pathlib import Path

import pytest

from compress.analysis.budget import Budget
from compress.recipe.schema import Recipe
from tests.search.laboratory import ACCURACIES, SPEEDUPS, Recorded, lab, trials

GOOD = ACCURACIES | {"pruned": 0.84}


def test_without_a_bound_on_accuracy_the_first_that_is_fast_is_not_the_end(
    recipe: Recipe, tmp_path: Path
) -> None:
    poor = Recorded(recipe, SPEEDUPS, ACCURACIES | {"int8": 0.3})
    searched = trials(recipe, poor, tmp_path, budget=Budget(speedup=1.5))
    assert "meets the budget" not in searched.run()
    assert {x.family for x in searched.journal.trials()} == {"int8", "pruned", "slow", "small"}
    picked = searched.judged.choice().picked
    assert picked is not None and picked.candidate.startswith("slow")


@pytest.mark.parametrize(("allowed", "said"), [(1.0, "95 % are enough"), (0.7, "70 % for")])
def test_it_ends_as_sure_as_was_said_at_the_start(
    allowed: float, said: str, recipe: Recipe, tmp_path: Path
) -> None:
    searched = trials(recipe, Recorded(recipe, SPEEDUPS, GOOD), tmp_path, allowed=allowed)
    assert said in searched.run()


def test_a_pick_that_often_disagrees_is_held_to_the_same(recipe: Recipe, tmp_path: Path) -> None:
    # As accurate as the teacher: half of the draws lose nothing, and 2 points are soon lost.
    even = Recorded(recipe, SPEEDUPS, ACCURACIES | {"pruned": 0.8 + 0.2 / 9}, noisy=("pruned",))
    searched = trials(recipe, even, tmp_path, allowed=0.95)
    assert "meets the budget" not in searched.run()


def test_where_nothing_fits_it_ends_when_nothing_left_can_help(
    recipe: Recipe, tmp_path: Path
) -> None:
    hopeless = {name: accuracy - 0.4 for name, accuracy in ACCURACIES.items()}
    searched = trials(recipe, Recorded(recipe, SPEEDUPS, hopeless), tmp_path)
    assert "beyond the accuracy that is needed from the" in searched.run()
    assert len(searched.journal.trials()) < len(recipe.candidates)


def test_what_is_too_slow_says_nothing_of_what_is_fast_enough(
    recipe: Recipe, tmp_path: Path
) -> None:
    slow = {family: 2.0 for family in SPEEDUPS}
    assert trials(recipe, Recorded(recipe, slow, ACCURACIES), tmp_path).run() == (
        "Every candidate of the recipe was tried."
    )


def test_a_trial_that_was_interrupted_is_not_yet_tried(recipe: Recipe, tmp_path: Path) -> None:
    searched = trials(recipe, lab(recipe), tmp_path)
    searched.run()
    assert searched.outlook.unfinished() == len(recipe.candidates) - len(searched.journal.trials())
