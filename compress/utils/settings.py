"""What everything in a recipe is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]


class RecipeModel(BaseModel):
    """Base of everything in a recipe: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def the_one_of(self, *names: str) -> str:
        """The one of these settings that is given.

        Raises:
            ValueError: none is, or several.
        """
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "none is given"
            wanted = f"{', '.join(names[:-1])} and {names[-1]}"
            raise ValueError(f"give exactly one of {wanted}: {found}")
        return given[0]
