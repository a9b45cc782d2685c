"""What a cascade folder says of itself (`pipeline.json`): its networks and where each looks."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from compress.results.schema import Runtime
from compress.utils.errors import UserError
from compress.utils.files import inside, write_text
from compress.utils.settings import RecipeModel

FILE = "pipeline.json"
StageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
Place = Annotated[list[float], Field(min_length=2, max_length=2)]  # x, y in fractions of the input


class Crop(RecipeModel):
    """Upright, around points that were found before."""

    around: Annotated[list[str], Field(min_length=1)]
    margin: Annotated[float, Field(ge=0, le=10)] = 0.25  # of the longer side, added on each side


def _two_places(value: dict[str, Place]) -> dict[str, Place]:
    if len(value) != 2 or len(set(map(tuple, value.values()))) != 2:
        raise ValueError("name two points and two different places for them")
    return value


class Look(RecipeModel):
    """What a network is shown: the whole photograph, a crop, or a warp (a similarity that brings
    two points found before to the given places).
    """

    crop: Crop | None = None
    warp: Annotated[dict[str, Place], AfterValidator(_two_places)] | None = None
    # How many turns of its view, evenly spread over the circle, it is shown; the points' median
    # counts (test-time augmentation: each turn is a run of the network).
    turns: Annotated[int, Field(ge=1, le=16)] = 1

    @model_validator(mode="after")
    def _one(self) -> "Look":
        if self.crop is not None and self.warp is not None:
            raise ValueError("give crop or warp, not both; the whole photograph is neither")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The points that must have been found before."""
        return tuple(self.crop.around if self.crop else self.warp or ())


class CascadeStage(Look):
    """One network. The last one names what is there, those before find points."""

    name: StageName
    model: str  # file in the cascade's folder
    runtime: Runtime | None = None  # none: what the file's format says
    # Longer side of a photograph that has enough pixels for its crop or warp, most likely: a large
    # JPEG is decoded no larger, and again where that is not enough. None: in full, it is not known.
    least_photograph_px: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, data: Any) -> Any:
        """In the first folders crop and warp lay within `look`."""
        if isinstance(data, dict) and isinstance(data.get("look"), dict):
            return data["look"] | {k: v for k, v in data.items() if k != "look"}
        return data


class CascadeSpec(RecipeModel):
    """The stages in order, and how sure the last must be to give a name."""

    version: Literal[1] = 1
    stages: Annotated[tuple[CascadeStage, ...], Field(min_length=1, strict=False)]
    min_probability: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Points that nobody finds here, but annotations give: what perfect first stages would be worth.
    annotated: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _named_once(self) -> "CascadeSpec":
        names = [stage.name for stage in self.stages]
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ValueError(f"two stages are called {twice[0]}")
        return self

    def save(self, folder: Path) -> None:
        write_text(folder / FILE, self.model_dump_json(indent=1, exclude_defaults=True))

    @classmethod
    def load(cls, folder: Path) -> "CascadeSpec":
        """Reads and checks `pipeline.json`; its models are there, below the folder.

        Raises:
            UserError: everything that is wrong with it.
        """
        file = folder / FILE
        if not file.is_file():
            raise UserError(
                f"{folder} holds no {FILE}: give a folder that a cascade recipe or "
                "`compress choose --export` wrote."
            )
        try:
            spec = cls.model_validate_json(file.read_text("utf-8", errors="replace"))
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise UserError(f"{file}: {'; '.join(faults)}.") from error
        for stage in spec.stages:
            path = inside(folder, stage.model)
            if path is None:
                raise UserError(f"{file}: {stage.name}'s model lies outside of {folder}.")
            if not path.is_file():
                raise UserError(f"{file}: {stage.name}'s model {stage.model} is not in {folder}.")
        return spec
