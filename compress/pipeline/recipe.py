"""A recipe for a pipeline: which recipe gives each stage its networks, and the ways through."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from compress.errors import UserError
from compress.pipeline.spec import Crop, Look
from compress.recipe import Asked, Recipe, load_recipe
from compress.recipe_file import read_recipe_file, set_value
from compress.training.settings import RecipeModel

WAYS = "ways"  # the key that tells a pipeline's recipe from others
StageName = Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$")]
XY = Annotated[list[float], Field(min_length=2, max_length=2)]


class CropSettings(RecipeModel):
    """Upright, around points that were found before."""

    around: Annotated[list[str], Field(min_length=1)]
    margin: Annotated[float, Field(ge=0, le=10)] = 0.25  # of the longer side, added on each side


class StageSettings(RecipeModel):
    """Where a stage's networks come from, and what they are shown (none: the whole photograph)."""

    recipe: str  # relative to this one; its teacher and candidates are what the stage may have
    crop: CropSettings | None = None
    warp: dict[str, XY] | None = None  # two points found before, and where to bring them
    turns: Annotated[int, Field(ge=1, le=16)] = 1  # test-time augmentation, a run each

    @property
    def look(self) -> Look:
        crop = None if self.crop is None else Crop.model_validate(self.crop.model_dump())
        return Look.model_validate({"crop": crop, "warp": self.warp})

    @model_validator(mode="after")
    def _looks(self) -> "StageSettings":
        _ = self.look  # what is wrong with it is said here
        return self


class PipelineRecipe(Asked):
    """A cascade of networks, each from a recipe of its own, on photographs that are annotated.

    `ways` are sequences of stages; the first is the teacher's, which all are compared with. Every
    combination of the networks of every way is predicted, and the front of them measured.
    """

    stages: Annotated[dict[StageName, StageSettings], Field(min_length=1)]
    ways: Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)]
    # The last stage must be so sure of a name to give it; else the answer is "not sure".
    min_probability: Annotated[float, Field(ge=0, lt=1)] = 0.0
    also_judge: dict[str, str] = {}  # name: path of further annotated photographs, listed each

    @model_validator(mode="after")
    def _consistent(self) -> "PipelineRecipe":
        for way in self.ways:
            if unknown := [name for name in way if name not in self.stages]:
                raise ValueError(f"ways names {unknown[0]!r}, which is not among the stages")
            if len(set(way)) < len(way):
                raise ValueError(f"a way goes through each stage once, not {' -> '.join(way)}")
        used = {name for way in self.ways for name in way}
        if unused := [name for name in self.stages if name not in used]:
            raise ValueError(f"no way goes through {unused[0]!r}: add one, or remove the stage")
        if len(self.measure.runtimes) > 1:
            raise ValueError("a pipeline is measured in one runtime: give one in measure.runtimes")
        return self


def is_pipeline(path: Path) -> bool:
    """Whether a recipe file is a pipeline's.

    Raises:
        UserError: no such file, or no YAML.
    """
    return WAYS in read_recipe_file(path).data


def load_pipeline_recipe(
    path: Path, assignments: Sequence[str] = (), allowed: Sequence[str] = ()
) -> tuple[PipelineRecipe, dict[str, Recipe]]:
    """Reads and checks a pipeline's recipe and those of its stages.

    Raises:
        UserError: everything that is wrong with them, with line and key path.
    """
    file = read_recipe_file(path)
    for assignment in assignments:
        set_value(file, assignment)
    file.data.setdefault("name", path.stem)
    faults = [f"{path}:{line}: {at}: {what}" for line, at, what in file.faults]
    recipe = None
    try:
        recipe = PipelineRecipe.model_validate(file.data)
    except ValidationError as error:
        for detail in error.errors():
            at = tuple(detail["loc"])
            known = at
            while known and known not in file.lines:
                known = known[:-1]
            what = str(detail["msg"]).removeprefix("Value error, ")
            where = ".".join(map(str, at)) or "recipe"
            faults.append(f"{path}:{file.lines.get(known, 1)}: {where}: {what}")
    recipes: dict[str, Recipe] = {}
    folder = path.resolve().parent
    for name, stage in recipe.stages.items() if recipe else ():
        try:
            recipes[name] = load_recipe(folder / stage.recipe, allowed=allowed)
        except UserError as error:
            faults.append(f"stages.{name}.recipe: {error}")
    if faults or recipe is None:
        raise UserError("\n  ".join([f"{path} has {len(faults)} faults:", *faults]))
    data = recipe.data
    if data.path is not None:
        data = data.model_copy(update={"path": str((folder / data.path).resolve())})
    further = {k: str((folder / v).resolve()) for k, v in recipe.also_judge.items()}
    return recipe.model_copy(update={"data": data, "also_judge": further}), recipes
