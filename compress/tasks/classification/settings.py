"""Losses of logits against the teacher's, as a recipe names them."""

from typing import Annotated, Literal

from pydantic import Field

from compress.tasks.settings import LossSettings


class KD(LossSettings):
    """Hinton et al. 2015: softened logits."""

    name: Literal["kd"] = "kd"
    temperature: Annotated[float, Field(gt=0)] = 4.0


class DKD(LossSettings):
    """Zhao et al. 2022: target class and the others weighted apart."""

    name: Literal["dkd"]
    temperature: Annotated[float, Field(gt=0)] = 4.0
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 8.0


class DIST(LossSettings):
    """Huang et al. 2022: correlations between and within classes."""

    name: Literal["dist"]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 2.0
    gamma: Annotated[float, Field(ge=0)] = 2.0
