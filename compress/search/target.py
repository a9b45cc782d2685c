"""What is said of a target before anything is tried, and which targets are refused."""

from collections.abc import Iterator, Mapping

from compress.analysis.budget import CONSTRAINTS, Budget
from compress.analysis.choose import Choice
from compress.analysis.explain import SURE, name
from compress.metrics.sample_size import highest_confidence, images_needed
from compress.recipe.schema import Recipe
from compress.search.ceiling import Ceiling
from compress.utils import units
from compress.utils.errors import UserError
from compress.workflow.too_few_images import USUAL

BOUNDED = Ceiling.model_fields  # what a network that does nothing is bounded by, too


def refuse_other_runtime(budget: Budget, recipe: Recipe) -> None:
    """Refuse a runtime that nothing is measured in.

    Raises:
        UserError: says which there are.
    """
    if budget.runtime not in (None, *recipe.measure.runtimes):
        raise UserError(
            f"The search is to end in {budget.runtime}, and the recipe measures in "
            f"{' and '.join(recipe.measure.runtimes)}: add it to measure.runtimes "
            f"(--set measure.runtimes='[{budget.runtime}]')."
        )


def allowed_by(images: int, budget: Budget, recipe: Recipe) -> float:
    """Return with what probability so many images can show the drop that a budget allows.

    Of a candidate as accurate as the teacher, at the usual disagreement; 1 where no drop is asked
    for, or answers are not right or wrong.
    """
    lost = budget.max_accuracy_drop
    if lost is None or not recipe.data.asked[0].right_or_wrong:
        return 1.0
    return highest_confidence(lost, USUAL, images)


def about_images(budget: Budget, recipe: Recipe, searched: int, kept: int) -> Iterator[str]:
    """Yield what the images allow to be shown."""
    yield (
        f"Decisions are made by {searched} of the validation images; the other {kept} judge the "
        "last picks, once."
    )
    lost, allowed = budget.max_accuracy_drop, allowed_by(searched, budget, recipe)
    if lost and allowed < SURE:
        needed = images_needed(lost, USUAL)
        yield (
            f"With {searched} images it can be shown with at most {units.probability(allowed)} "
            f"probability that a candidate as accurate as the teacher loses at most "
            f"{units.points_typed(lost)}, where the two disagree on {100 * USUAL:g} % of them; "
            f"about {units.at_least(needed or 0)} images would allow {100 * SURE:g} %."
        )


def is_bounded(budget: Budget) -> bool:
    """Return whether a network that does nothing could miss the budget."""
    return any(bound.field in BOUNDED for bound, _ in budget.limits())


def refuse_beyond(budget: Budget, ceilings: Mapping[str, Ceiling]) -> None:
    """Refuse what not even a network that does nothing would reach.

    Args:
        ceilings: by runtime.

    Raises:
        UserError: says what can be had at most.
    """
    served = {k: v for k, v in ceilings.items() if budget.runtime in (None, k)}
    for bound in CONSTRAINTS:
        limit = getattr(budget, bound.field)
        if limit is None or bound.field not in BOUNDED or not served:
            continue
        values = {runtime: getattr(each, bound.field) for runtime, each in served.items()}
        best = (max if bound.at_least else min)(values, key=lambda runtime: values[runtime])
        if not bound.is_met(values[best], limit):
            raise UserError(
                f"{bound.option} {bound.typed(limit)} cannot be met: with no network at all "
                f"{bound.quantity} is {bound.measured(values[best])} in {best}; relax it, or "
                "measure in another runtime."
            )


def refuse_met(choice: Choice) -> None:
    """Refuse a target that the teacher itself meets: nothing would have to be searched.

    Raises:
        UserError: says what could be asked for.
    """
    if choice.picked is not None and choice.picked.role == "teacher":
        raise UserError(
            f"{name(choice.picked)} meets this as it is: {choice.why} Ask for a --speedup, or for "
            "less time, bytes or memory than it takes."
        )
