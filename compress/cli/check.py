"""`compress check`: is this recipe right, without running it?"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from compress.cli.run import Allowed, Assignments, Data, Recipe

if TYPE_CHECKING:
    from compress.recipe import Recipe as Loaded


def check(
    recipe: Recipe,
    data: Data = None,
    assignments: Assignments = None,
    allow_builders: Allowed = None,
) -> None:
    """Validate a recipe: keys, values, builders, the data's layout, the weights file."""
    from compress.recipe import load_recipe

    allowed = allow_builders or []
    loaded = load_recipe(recipe, data, assignments or [], allowed)

    from compress.builders import resolve
    from compress.errors import UserError
    from compress.measure.machine import machine, usable_threads
    from compress.plan import make_plan
    from compress.recipe import builders_of

    faults = []
    for path, name in builders_of(loaded):
        try:
            resolve(name, allowed)
        except UserError as error:
            faults.append(f"{'.'.join(map(str, path))}: {error}")
    for question in (_data, _weights):
        try:
            typer.echo(question(loaded))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join([f"{recipe} cannot run here:", *(f"  {x}" for x in faults)]))
    plan = make_plan(loaded, machine(), loaded.measure.threads or usable_threads(), allowed)
    typer.echo(f"{recipe} is right: {len(plan.stages)} stages, {len(plan.entries)} rows.")


def _data(recipe: "Loaded") -> str:
    from compress.data.layouts import check_classes, read_folder

    settings = recipe.data
    if settings.path is None:
        return f"data: made by {settings.builder}"
    columns = settings.point_columns
    data = read_folder(Path(settings.path), settings.picture_column, settings.label_column, columns)
    if columns is None:
        check_classes(data)
    labelled = sum(p.is_labelled for p in data.pictures)
    return (
        f"data: {labelled} labelled pictures {data.task}, "
        f"{len(data.pictures) - labelled} unlabelled (not decoded yet)"
    )


def _weights(recipe: "Loaded") -> str:
    from compress.checkpoint import load_tensors
    from compress.plan import weights_path

    path = weights_path(recipe)
    if recipe.teacher.onnx is not None:
        from compress.onnx_teacher import read_onnx

        nodes = len(read_onnx(Path(recipe.teacher.onnx)).graph.node)
        return f"teacher: an ONNX file of {nodes} operations (not yet run)"
    if path is None:
        return f"weights: {recipe.teacher.weights or 'none, trained from scratch'}"
    tensors, metadata = load_tensors(path)
    classes = metadata.get("classes") or (metadata.get("spec") or {}).get("classes")
    named = f"{len(classes)} classes named" if isinstance(classes, list) else "no classes named"
    return f"weights: {len(tensors)} tensors, {named} (not yet loaded into the network)"
