"""`compress check`: is this recipe right, without running it?"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from compress.cli.run import Allowed, Assignments, Data, Recipe

if TYPE_CHECKING:
    from onnx import ModelProto

    from compress.data.dataset import Dataset
    from compress.recipe.schema import Recipe as Loaded


def check(
    recipe: Recipe,
    data: Data = None,
    assignments: Assignments = None,
    allow_builders: Allowed = None,
) -> None:
    """Validate a recipe: keys, values, builders, the data's layout, the weights file."""
    from compress.cascade.recipe import load_any

    allowed = allow_builders or []
    loaded = load_any(recipe, data, assignments or [], allowed)

    from compress.measure.machine import machine, usable_threads
    from compress.utils.errors import UserError
    from compress.workflow.plan import make_plan

    faults: list[str] = []
    for each in loaded.of_networks:
        if loaded.stages:
            typer.echo(f"{each.name}:")
        faults += _faults(each, allowed)
    if faults:
        raise UserError("\n".join([f"{recipe} cannot run here:", *(f"  {x}" for x in faults)]))
    plans = [
        make_plan(each, machine(), each.measure.threads or usable_threads(), allowed)
        for each in loaded.of_networks
    ]
    if faults := [fault for plan in plans for fault in plan.faults]:
        raise UserError("\n".join([f"{recipe} cannot run here:", *(f"  {x}" for x in faults)]))
    stages, rows = sum(len(plan.stages) for plan in plans), sum(len(plan.entries) for plan in plans)
    typer.echo(f"{recipe} is right: {stages} stages, {rows} rows.")


def _faults(recipe: "Loaded", allowed: list[str]) -> Iterator[str]:
    """What stands in the way of one network's recipe; says what was found."""
    from compress.models.builders import resolve
    from compress.recipe.load import builders_of
    from compress.utils.errors import UserError

    unknown = set()
    for path, name in builders_of(recipe):
        try:
            resolve(name, allowed)
        except UserError as error:
            unknown.add(name)
            yield f"{'.'.join(map(str, path))}: {error}"
    data = None
    try:
        data = _read(recipe)
        typer.echo(_data(recipe, data))
    except UserError as error:
        yield str(error)
    noted: dict[str, Any] = {}
    try:
        if recipe.teacher.onnx is not None:
            typer.echo(_of_onnx(recipe, Path(recipe.teacher.onnx), data))
        else:
            found, noted = _weights(recipe)
            typer.echo(found)
    except UserError as error:
        yield str(error)
    if data is not None and recipe.teacher.builder not in {None, *unknown}:
        try:
            for note in _tried(recipe, data, noted, allowed):
                typer.echo(f"teacher: {note}")
        except UserError as error:
            yield str(error)


def _read(recipe: "Loaded") -> "Dataset | None":
    """Return the dataset; None where a run is to make it."""
    from compress.tasks import read_for
    from compress.tasks.base import Source
    from compress.utils.errors import UserError

    settings = recipe.data
    if settings.builder is not None:
        if settings.path is not None and not Path(settings.path).exists():
            raise UserError(f"No data at {settings.path}.")
        return None
    assert settings.path is not None
    task, asked = settings.asked
    source = Source(Path(settings.path), settings.image_column, settings.label_column)
    return read_for(task, source, asked, named=settings.task is not None)


def _tried(
    recipe: "Loaded", data: "Dataset", noted: dict[str, Any], allowed: list[str]
) -> list[str]:
    """Build the teacher for the data and try it; return what is taken of its input and outputs.

    Args:
        noted: the metadata of its weights.
    """
    from compress.models.builders import build
    from compress.models.own_input import noted_input
    from compress.models.trial import check_forward
    from compress.tasks import task_of, task_of_data
    from compress.workflow.stages.teacher_input import notes_on, with_noted

    assert recipe.teacher.builder is not None
    own, fit = noted_input(noted), recipe.data.image_fit
    name = Path(recipe.teacher.weights or "").name
    settings = with_noted(recipe.teacher, own, name)
    spec = settings.input_spec(fit, **task_of_data(data).predicts(data))
    if settings.train_only is None:  # with it, the last layer is made anew for this data
        task_of(spec).check_weights(noted)
    model = build(recipe.teacher.builder, settings.settings, spec.num_outputs, allowed, spec.shape)
    taken = check_forward(model, spec, recipe.teacher.builder)
    return [*notes_on(settings, fit, own, name), *taken]


def _of_onnx(recipe: "Loaded", path: Path, data: "Dataset | None") -> str:
    """Return what was found of an ONNX file; if there is data, it is asked for an empty image."""
    from compress.models.onnx_teacher import read_onnx, taken_by

    model = read_onnx(path)
    if data is not None:
        _asked(model, recipe, path.name, data)
    own = ""
    if taken_by(model).kind == "uint8":
        own = "; it takes bytes (uint8): mean and std are its own"
    tried = " (not yet run)" * (data is None)
    return f"teacher: an ONNX file of {len(model.graph.node)} operations{tried}{own}"


def _asked(model: "ModelProto", recipe: "Loaded", name: str, data: "Dataset") -> None:
    """Ask an ONNX file for an empty image, as a run asks it for real ones.

    Raises:
        UserError: it does not take such images, or gives other outputs than the data asks for.
    """
    import tempfile

    import numpy as np
    import onnx

    from compress.models.onnx_teacher import noted_spec, plain, taken_by
    from compress.models.own_input import OwnInput
    from compress.tasks import task_of, task_of_data
    from compress.workflow.stages.onnx_teacher import alone
    from compress.workflow.stages.teacher_input import with_noted

    noted, taken = noted_spec(model), taken_by(model)
    own = None if noted is None else OwnInput.of_spec(noted)
    settings = with_noted(recipe.teacher, own, "teacher.onnx")
    spec = settings.input_spec(recipe.data.image_fit, **task_of_data(data).predicts(data))
    spec = spec.fed_as(taken.kind, taken.layout)
    if noted is not None:
        task_of(spec).check_weights({"spec": noted.model_dump(mode="json")})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        onnx.save(plain(model, spec), file)
        alone(file, np.zeros((1, *spec.shape), np.float32), spec)


def _data(recipe: "Loaded", data: "Dataset | None") -> str:
    settings = recipe.data
    if data is None:
        return f"data: made by {settings.builder}" + (f" of {settings.path}" * bool(settings.path))
    labelled = sum(p.is_labelled for p in data.images)
    found = (
        f"data: {labelled} labelled images {data.annotated}, "
        f"{len(data.images) - labelled} unlabelled (not decoded yet)"
    )
    return "\n  ".join([found, *data.notes, *_too_few(recipe, data)])


def _too_few(recipe: "Loaded", data: "Dataset") -> Iterator[str]:
    """Say what the validation images are too few for; of a split that cannot be, a run speaks."""
    from compress.data.split import draw_split
    from compress.utils.errors import UserError
    from compress.workflow.too_few_images import too_few_images

    try:
        split = draw_split(data, recipe.data.validation_fraction, recipe.seed)
    except UserError:
        return
    if few := too_few_images(recipe, len(split.indices("validation"))):
        yield few


def _weights(recipe: "Loaded") -> tuple[str, dict[str, Any]]:
    """Return what was found of the teacher's weights, and their metadata."""
    from compress.models.checkpoint import load_tensors
    from compress.models.class_names import order_in
    from compress.models.weight_sources import is_file

    weights = recipe.teacher.weights
    if weights is None or not is_file(weights):
        return f"weights: {weights or 'none, trained from scratch'}", {}
    tensors, metadata = load_tensors(Path(weights))
    order = order_in(metadata)
    named = f"{len(order)} classes named" if isinstance(order, list) else "no classes named"
    found = f"weights: {len(tensors)} tensors, {named} (not yet loaded into the network)"
    return found, metadata
