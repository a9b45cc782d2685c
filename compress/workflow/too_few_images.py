"""Says before a run which drop its validation images are too few to show."""

from compress.metrics.sample_size import CONFIDENCE, images_needed, largest_disagreement
from compress.recipe.schema import BaseRecipe
from compress.utils import units

USUAL = 0.05  # share of images on which a good candidate and its teacher disagree


def too_few_images(recipe: BaseRecipe, images: int) -> str | None:
    """Return what these validation images can show of the drop that a recipe's budget allows.

    Args:
        images: how many there are.

    Returns:
        None where they are enough for a candidate that is as accurate as the teacher and
        disagrees with it as often as is usual; and where no drop is asked for, none is allowed,
        or answers are not right or wrong.
    """
    if recipe.budget is None or not recipe.data.asked[0].right_or_wrong:
        return None
    max_drop = recipe.budget.max_accuracy_drop
    needed = images_needed(max_drop, USUAL)
    if needed is None or needed <= images:
        return None
    share = largest_disagreement(max_drop, images)
    return (
        f"{images:,} validation images show a drop of at most {units.points_typed(max_drop)} with "
        f"{100 * CONFIDENCE:g} % probability only if a candidate as accurate as the teacher "
        f"disagrees with it on at most {units.significant(100 * share, 2)} % of them; where it "
        f"does on {100 * USUAL:g} %, about {units.at_least(needed)} images would do."
    )
