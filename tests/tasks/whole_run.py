"""A tiny recipe done from data to report, for tasks to be looked at end to end."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import compress.methods.quantize.layer_search
from compress.recipe.load import load_recipe
from compress.report.write import reports_in
from compress.results.schema import Result
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe


def run_in(out: Path, recipe: dict[str, Any]) -> list[Result]:
    """Do what a recipe asks for, with as few measurements as there can be; return its rows."""
    path = out / f"{recipe['name']}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compress.methods.quantize.layer_search, "PROCESSES", 1)
        patch.setattr(compress.methods.quantize.layer_search, "ROUNDS", 5)
        progress, shown = Progress(Console(quiet=True)), reports_in(out)
        results, _ = run_recipe(load_recipe(path), out, progress, "compress run", report=shown)
    return results
