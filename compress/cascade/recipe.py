"""A recipe for a cascade: which recipe gives each stage its networks, and the paths through."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from compress.cascade.spec import Look, StageName
from compress.data.keypoints import PointColumns
from compress.recipe.beginning import Spliced
from compress.recipe.errors import Faults
from compress.recipe.grid import Grid
from compress.recipe.load import address_faults, load_recipe, read_asked, with_absolute_path
from compress.recipe.renamed import note_old_names
from compress.recipe.schema import BaseRecipe, Recipe
from compress.recipe.shipped import located
from compress.recipe.yaml_file import KeyPath, RecipeFile, read_recipe_file
from compress.tasks import usual_task
from compress.utils.errors import UserError
from compress.utils.files import local

PATHS = ("paths", "ways")  # keys, now and before, that tell a cascade's recipe from others


class StageSettings(Look):
    """Where a stage's networks come from, and what they are shown (none: the whole photograph).

    Or what a perfect stage would find: points that are annotated. A path that begins with such a
    stage is judged with the teachers behind it, and is no candidate: nobody annotates what a
    deployed cascade is shown.
    """

    # Relative to this one; its teacher and candidates are what the stage may have.
    recipe: str | None = None
    annotated: Annotated[list[str], Field(min_length=1)] | None = None  # names of points

    @model_validator(mode="after")
    def _networks_or_annotations(self) -> "StageSettings":
        if (self.recipe is None) == (self.annotated is None):
            raise ValueError("give a recipe, or the names of annotated points")
        if self.annotated is not None and (self.crop or self.warp or self.turns > 1):
            raise ValueError("annotated points are not looked for: remove crop, warp and turns")
        return self


class CascadeRecipe(BaseRecipe):
    """A cascade of networks, each from a recipe of its own, on photographs that are annotated.

    `paths` are sequences of stages; the first is the teacher's, which all are compared with. Every
    combination of the networks of every path is predicted, and the front of them measured.
    """

    stages: Annotated[dict[StageName, StageSettings], Field(min_length=1)]
    paths: Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)]
    # The last stage must be so sure of a name to give it; else the answer is "not sure".
    min_probability: Annotated[float, Field(ge=0, lt=1)] = 0.0
    also_judge: dict[str, str] = {}  # name: path of further annotated photographs, listed each

    old_names = {"ways": "paths"}

    def told(self, path: Sequence[str]) -> list[str]:
        """Return the points that a path does not find but takes from annotations."""
        return [point for name in path for point in self.stages[name].annotated or ()]

    def found(self, path: Sequence[str]) -> list[str]:
        """Return the stages of a path that are networks."""
        return [name for name in path if self.stages[name].annotated is None]


@dataclass(frozen=True)
class AnyRecipe:
    """A recipe of one network, or a cascade's with those of its stages."""

    asked: Recipe | CascadeRecipe
    stages: Mapping[str, Recipe]  # by stage; none of one network

    @property
    def of_networks(self) -> list[Recipe]:
        """Return the recipes that make networks."""
        return [self.asked] if isinstance(self.asked, Recipe) else list(self.stages.values())


def is_cascade(file: RecipeFile) -> bool:
    """Return whether a recipe is one for a cascade."""
    return any(key in file.data for key in PATHS)


def load_any(
    path: Path,
    data: Path | None = None,
    assignments: Sequence[str] = (),
    allowed: Sequence[str] = (),
) -> AnyRecipe:
    """Read and check a recipe of either kind.

    Args:
        path: of its file, or the name of one that comes with compress.

    Raises:
        UserError: everything that is wrong with it, with line and key path.
    """
    path = located(path)
    if not is_cascade(read_recipe_file(path)):
        return AnyRecipe(load_recipe(path, data, assignments, allowed), {})
    if data is not None:
        raise UserError(
            "--data is for the recipe of one network: a cascade's recipe and those of its stages "
            "each say where their own images are."
        )
    return AnyRecipe(*load_cascade_recipe(path, assignments, allowed))


def load_cascade_recipe(
    path: Path, assignments: Sequence[str] = (), allowed: Sequence[str] = ()
) -> tuple[CascadeRecipe, dict[str, Recipe]]:
    """Read and check a cascade's recipe and those of its stages.

    Raises:
        UserError: everything that is wrong with any of them, with line and key path.
    """
    file = read_asked(path, assignments)
    note_old_names(file, CascadeRecipe)
    # There are no chains here, and lists are no grids.
    faults = Faults(file, CascadeRecipe, Spliced(file.data), Grid(file.data))
    recipe = faults.validated()
    faults.refuse_builders(None if recipe is None else _builders_of(recipe), allowed)
    if recipe is not None:
        remote = address_faults(_paths_of(recipe))
        for at, what in (*_network_faults(recipe), *_path_faults(recipe), *remote):
            faults.add(at, what)
    folder = path.resolve().parent
    recipes: dict[str, Recipe] = {}
    for name, named in _recipes_named(file.data.get("stages")):
        try:
            recipes[name] = load_recipe(folder / local(named), allowed=allowed)
        except UserError as error:
            faults.add(("stages", name, "recipe"), str(error).replace("\n", "\n  "))
            continue
        task = recipes[name].data.asked[0]
        if task not in (usual_task(None)[0], usual_task(PointColumns.of(["a"]))[0]):
            what = f"{named} is for {task.name}; a cascade is of networks that find points or name "
            faults.add(("stages", name, "recipe"), f"{what}classes")
    return _absolute(faults.faultless(recipe), file), recipes


def _recipes_named(stages: Any) -> Iterator[tuple[str, str]]:
    """Yield stages and their recipes from plain data: they are read whatever else is wrong."""
    for name, stage in stages.items() if isinstance(stages, dict) else ():
        if isinstance(stage, dict) and isinstance(named := stage.get("recipe"), str):
            yield name, named


def _paths_of(recipe: CascadeRecipe) -> Iterator[tuple[KeyPath, str]]:
    if recipe.data.path is not None:
        yield ("data", "path"), recipe.data.path
    yield from ((("also_judge", name), path) for name, path in recipe.also_judge.items())


def _builders_of(recipe: CascadeRecipe) -> Iterator[tuple[KeyPath, str]]:
    if recipe.data.builder is not None:
        yield ("data", "builder"), recipe.data.builder


def _network_faults(recipe: CascadeRecipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is only for a network that is trained on the data, or for the files of one."""
    batches = "photographs go through a cascade one by one"
    bounds = "the stages' own recipes say when points are right"
    reasons = {
        ("data", "points"): "a cascade is judged by the columns NAME_x and NAME_y of its tables",
        ("data", "box"): "a cascade is judged by the columns x, y, width and height of its tables",
        ("data", "fit"): "each stage's own recipe says how a photograph is brought to its input",
        ("measure", "throughput_batch"): batches,
        ("measure", "throughput_rounds"): batches,
        ("measure", "batches"): batches,
        ("measure", "tolerance"): bounds,
        ("measure", "iou"): bounds,
    }
    for (section, name), reason in reasons.items():
        if name in getattr(recipe, section).model_fields_set:
            yield (section, name), f"is for the recipe of one network; {reason}: remove it"


def _path_faults(recipe: CascadeRecipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield paths that lead nowhere, stages that none leads through, and more than one runtime."""
    for i, path in enumerate(recipe.paths):
        for k, name in enumerate(path):
            if name not in recipe.stages:
                yield ("paths", i, k), f"paths names {name!r}, which is not among the stages"
        if len(set(path)) < len(path):
            yield ("paths", i), f"a path goes through each stage once, not {' -> '.join(path)}"
        yield from _annotation_faults(recipe, i, [x for x in path if x in recipe.stages])
    used = {name for path in recipe.paths for name in path}
    for name in recipe.stages:
        if name not in used:
            yield ("stages", name), f"no path goes through {name!r}: add one, or remove the stage"
    if len(recipe.measure.runtimes) > 1:
        yield ("measure", "runtimes"), "a cascade is measured in one runtime: give one"


def _annotation_faults(
    recipe: CascadeRecipe, i: int, path: Sequence[str]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield annotated stages where networks must be."""
    networks = recipe.found(path)
    if path and not networks:
        yield ("paths", i), "nothing in this path is a network: end it with one that names things"
    elif i == 0 and recipe.told(path):
        yield (
            ("paths", 0),
            "the first path is what all are compared with, and annotations are not deployed: put "
            "one of networks first",
        )
    elif list(path[-len(networks) :]) != networks:
        yield ("paths", i), "annotated stages come before all networks"


def _absolute(recipe: CascadeRecipe, file: RecipeFile) -> CascadeRecipe:
    """Resolve paths against the folder of the file that names them."""
    data = with_absolute_path(recipe.data, file)
    further = {k: file.resolved(("also_judge", k), v) for k, v in recipe.also_judge.items()}
    return recipe.model_copy(update={"data": data, "also_judge": further})
