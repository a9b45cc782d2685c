"""What a recipe says about saliency. Importing this never imports torch."""

from typing import Annotated

from pydantic import Field

from compress.results.schema import SaliencyMethod
from compress.utils.settings import RecipeModel


class SaliencySettings(RecipeModel):
    """Where the teacher and every candidate look, on validation images with an annotated box.

    Of networks that name no class the gallery alone is made: their answers, drawn.
    """

    images: Annotated[int, Field(ge=2, le=10_000)] = 32
    methods: Annotated[list[SaliencyMethod], Field(min_length=1)] = ["grad_cam", "occlusion"]
    gallery: bool = False  # shows some of the images in report.html

    old_names = {"pictures": "images"}
    key_names = {"images": "pictures"}
