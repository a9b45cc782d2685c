"""On how many images batch norms are measured anew."""

from typing import Annotated

from pydantic import Field

from compress.utils.settings import RecipeModel


class Settings(RecipeModel):
    """On how many training images, as they are, the statistics are measured."""

    images: Annotated[int, Field(ge=2, le=1_000_000)] = 2000
