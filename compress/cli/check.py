"""`compress check`: is this recipe right, without running it?"""

import typer

from compress.cli.run import Allowed, Assignments, Data, Recipe


def check(
    recipe: Recipe,
    data: Data = None,
    assignments: Assignments = None,
    allow_builders: Allowed = None,
) -> None:
    """Validate a recipe: keys, values, builders, and whether data and weights are there."""
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
            faults.append(f"  {'.'.join(map(str, path))}: {error}")
    try:
        plan = make_plan(loaded, machine(), loaded.measure.threads or usable_threads(), allowed)
    except UserError as error:
        faults.append(f"  {error}")
    if faults:
        raise UserError("\n".join([f"{recipe} cannot run here:", *faults]))
    typer.echo(f"{recipe} is right: {len(plan.stages)} stages, {len(plan.entries)} rows.")
