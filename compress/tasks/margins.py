"""Margins between classes, as recipes name them: the right one must win by an angle. No torch."""

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field

from compress.utils.errors import UserError
from compress.utils.settings import Positive, RecipeModel


class CosFace(RecipeModel):
    """Wang et al. 2018, arXiv:1801.09414: the right class's cosine, less the margin."""

    name: Literal["cosface"]
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.35
    scale: Positive = 30.0  # of cosines, as logits


class ArcFace(RecipeModel):
    """Deng et al. 2019, arXiv:1801.07698: the cosine of the right class's angle and the margin."""

    name: Literal["arcface"] = "arcface"
    margin_degrees: Annotated[float, Field(gt=0, lt=90)] = 28.6
    scale: Positive = 30.0  # of cosines, as logits


Margin = CosFace | ArcFace


def refuse_without_library(loss: str) -> None:
    """Refuse a loss, before anything is trained, where the library that has it is missing.

    Raises:
        UserError: how to install it.
    """
    if find_spec("pytorch_metric_learning") is None:
        raise UserError(f"{loss} needs pytorch-metric-learning: pip install 'compress[embedding]'.")
