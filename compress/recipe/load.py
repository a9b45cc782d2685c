"""A recipe's file to a recipe: read, checked as a whole, its paths made absolute."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from compress.methods import discover
from compress.methods.base import TEACHER, Student
from compress.models.weight_sources import is_file
from compress.recipe.beginning import splice
from compress.recipe.errors import Faults
from compress.recipe.grid import Grid, expand
from compress.recipe.renamed import note_old_names
from compress.recipe.schema import DataSettings, GridPoint, Recipe, chosen
from compress.recipe.schema_paths import schema_at
from compress.recipe.sections import include
from compress.recipe.task import fit_to_task, task_faults
from compress.recipe.yaml_file import KeyPath, RecipeFile, read_recipe_file, set_value
from compress.results.schema import Deployed
from compress.utils.errors import UserError
from compress.utils.files import local


def runtimes_of(recipe: Recipe, chain: Sequence[Any]) -> list[Deployed]:
    """Of the runtimes asked for, those in which the files of a chain's last step run."""
    kind, _ = chosen(chain[-1])
    files_run_in = discover()[kind].runtimes or recipe.measure.runtimes
    return [runtime for runtime in recipe.measure.runtimes if runtime in files_run_in]


def students_of(recipe: Recipe) -> Iterator[tuple[KeyPath, Student]]:
    """Yield every network of their own that steps train, with the step's key path."""
    for name, chain in recipe.candidates.items():
        for i, (kind, settings) in enumerate(map(chosen, chain)):
            if student := discover()[kind].student(settings):
                yield ("candidates", name, i, kind), student


def builders_of(recipe: Recipe) -> list[tuple[KeyPath, str]]:
    """Every builder that the recipe names, with its key path."""
    found: list[tuple[KeyPath, str]] = []
    if recipe.teacher.builder is not None:
        found.append((("teacher", "builder"), recipe.teacher.builder))
    if recipe.data.builder is not None:
        found.append((("data", "builder"), recipe.data.builder))
    found += [((*at, "student"), student.builder) for at, student in students_of(recipe)]
    return found


def load_recipe(
    path: Path,
    data: Path | None = None,
    assignments: Sequence[str] = (),
    allowed: Sequence[str] = (),
) -> Recipe:
    """Reads and checks a recipe; paths in it become absolute, grids one candidate per point.

    Args:
        data: takes the place of the recipe's data source (`--data`).
        assignments: `key.path=value` (`--set`).
        allowed: further packages that builders may come from (`--allow-builders`).

    Raises:
        UserError: everything that is wrong, one line each with line and key path.
    """
    file = read_asked(path, assignments)
    if data is not None:
        section = file.data.get("data")
        section = dict(section) if isinstance(section, dict) else {}
        for of_others in ("licence", "source"):
            section.pop(of_others, None)
        if "path" not in section:  # a builder that makes images of nothing
            section.pop("builder", None)
            section.pop("settings", None)
        file.data["data"] = section | {"path": str(local(data).resolve())}

    note_old_names(file, Recipe)
    spliced = splice(file.data)
    grid = expand(spliced.data, partial(schema_at, Recipe))
    faults = Faults(file, Recipe, spliced, grid)
    recipe = faults.validated()
    # With other faults there is no Recipe; what can be found in the plain data is reported too.
    faults.refuse_builders(None if recipe is None else builders_of(recipe), allowed)
    if recipe is not None:
        for at, what in _faults_of(recipe, grid):
            faults.add(at, what)
    recipe = _absolute(fit_to_task(faults.faultless(recipe)), file)
    return recipe.written(
        begun={name: spliced.begun(key[1]) for name, (key, _) in grid.origins.items()},
        points={name: GridPoint(*grid.place(name)) for name in grid.origins},
    )


def read_asked(path: Path, assignments: Sequence[str]) -> RecipeFile:
    """A recipe's file, sections from other files in place, with `--set` applied.

    Where it gives no name it is named after itself.

    Raises:
        UserError: as `read_recipe_file` and `set_value`.
    """
    file = read_recipe_file(path)
    include(file)
    for assignment in assignments:
        set_value(file, assignment)
        include(file)
    file.data.setdefault("name", re.sub(r"[^\w.-]+", "_", path.stem).lstrip("._-") or "recipe")
    return file


def _faults_of(recipe: Recipe, grid: Grid) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with a recipe whose keys and values are right each by itself."""
    yield from _run_nowhere(recipe, grid)
    yield from task_faults(recipe)
    yield from _code_faults(recipe)
    yield from _teaching_faults(recipe)
    yield from address_faults(_paths_of(recipe))


def _run_nowhere(recipe: Recipe, grid: Grid) -> Iterator[tuple[KeyPath, str]]:
    """Candidates whose files run in none of the runtimes asked for."""
    for name, chain in recipe.candidates.items():
        if runtimes_of(recipe, chain):
            continue
        (_, written), _ = grid.written(("candidates", name))
        kind, _ = chosen(chain[-1])
        files_run_in = discover()[kind].runtimes
        yield (
            ("measure", "runtimes"),
            f"{written} ends with {kind}, whose files run in {' and '.join(files_run_in)} only: "
            f"add {files_run_in[0]} to measure.runtimes",
        )


def _code_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """First steps that change the teacher's network, where the teacher is an ONNX file."""
    if recipe.teacher.onnx is None:
        return
    for name, steps_ in recipe.candidates.items():
        kind, settings = chosen(steps_[0])
        method = discover()[kind]
        if method.student(settings) is None and not method.takes_files(settings):
            yield (
                ("candidates", name, 0, kind),
                "changes the teacher's network, and an ONNX file holds no code to change: distil "
                "into a student first, or give the teacher's builder and weights",
            )


def _teaching_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Candidates that learn from others that are not there, from themselves, or from files."""
    taught_by = {
        name: [
            (("candidates", name, i, kind, *_where_taught(settings)), teacher)
            for i, (kind, settings) in enumerate(map(chosen, chain))
            for teacher in discover()[kind].teachers(settings)
        ]
        for name, chain in recipe.candidates.items()
    }
    for name, named in taught_by.items():
        for at, teacher in named:
            if teacher == TEACHER:
                continue
            if teacher not in recipe.candidates:
                near = get_close_matches(teacher, [TEACHER, *recipe.candidates], 1)
                yield at, f"no candidate {teacher!r}" + f"; did you mean {near[0]!r}?" * bool(near)
            elif name in _those_behind(teacher, taught_by):
                yield at, f"{name} would learn from itself by way of {teacher}"
            else:
                kind, _ = chosen(recipe.candidates[teacher][-1])
                if discover()[kind].makes_file:
                    what = f"{teacher} ends with {kind}, so it is a file"
                    yield at, f"{what}: name a candidate that ends before that step"


def _where_taught(settings: Any) -> KeyPath:
    """Return the key path, within a step's settings, of those that it learns from."""
    return ("teacher",) if "teacher" in type(settings).model_fields else ("train", "teacher")


def _those_behind(name: str, taught_by: Mapping[str, Sequence[tuple[KeyPath, str]]]) -> set[str]:
    """Return a candidate and all that it learns from, one by way of the other."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        if (here := waiting.pop()) not in found:
            found.add(here)
            waiting += [teacher for _, teacher in taught_by.get(here, ())]
    return found


def _paths_of(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Every path that the recipe names, with its key path."""
    teacher = recipe.teacher
    if recipe.data.path is not None:
        yield ("data", "path"), recipe.data.path
    if teacher.weights is not None and is_file(teacher.weights):
        yield ("teacher", "weights"), teacher.weights
    if teacher.onnx is not None:
        yield ("teacher", "onnx"), teacher.onnx
    for at, student in students_of(recipe):
        if student.weights is not None and is_file(student.weights):
            yield (*at, "weights"), student.weights


def address_faults(paths: Iterable[tuple[KeyPath, str]]) -> Iterator[tuple[KeyPath, str]]:
    """Paths, by key path, that are addresses of something elsewhere."""
    for at, path in paths:
        try:
            local(path)
        except UserError as error:
            yield at, str(error)


def with_absolute_path(data: DataSettings, file: RecipeFile) -> DataSettings:
    """The data's path resolved against the folder of the file that names it."""
    if data.path is None:
        return data
    return data.model_copy(update={"path": file.resolved(("data", "path"), data.path)})


def _absolute(recipe: Recipe, file: RecipeFile) -> Recipe:
    """Resolves paths against the folder of the file that names them."""
    paths = {at: file.resolved(at, path) for at, path in _paths_of(recipe)}

    def of(section: str) -> dict[str, str]:
        return {str(at[-1]): path for at, path in paths.items() if at[0] == section}

    data = recipe.data.model_copy(update=of("data"))
    teacher = recipe.teacher.model_copy(update=of("teacher"))
    candidates = {
        name: [
            _with_weights(step, paths.get(("candidates", name, i, chosen(step)[0], "weights")))
            for i, step in enumerate(chain)
        ]
        for name, chain in recipe.candidates.items()
    }
    update = {"data": data, "teacher": teacher, "candidates": candidates}
    return recipe.model_copy(update=update)


def _with_weights(step: Any, path: str | None) -> Any:
    """Return a step with the path of the weights that its student begins with."""
    if path is None:
        return step
    kind, settings = chosen(step)
    return step.model_copy(update={kind: settings.model_copy(update={"weights": path})})
