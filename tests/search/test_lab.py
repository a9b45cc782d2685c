"""Candidates of a search as they are really made: what ends it, and what is a candidate's fault."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import compress.utils.files
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.search.lab import StageLab
from compress.search.schedule import rungs
from compress.utils.errors import StorageFailed, UserError
from compress.utils.progress import Progress
from tests.conftest import tiny_recipe


@pytest.fixture
def recipe(shapes: Path, write_recipe: Callable[..., Path]) -> Recipe:
    written = tiny_recipe(shapes)
    written["teacher"]["train"]["epochs"] = 2
    written["candidates"] = {"small": [{"factorize": {"ratio": 0.5, "round_to": 4}}]}
    return load_recipe(write_recipe(written))


def lab(recipe: Recipe, out: Path, time_is_up: bool = False) -> StageLab:
    def progress(on_epoch: Callable[..., None]) -> Progress:
        return Progress(Console(quiet=True), on_epoch=on_epoch)

    return StageLab(recipe, out, progress, "compress search", [], lambda: time_is_up)


def test_a_full_disk_is_no_fault_of_the_candidate(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if "step-" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(compress.utils.files.os, "replace", full)
    (rung,) = rungs(recipe.candidates["small"])
    with pytest.raises(StorageFailed, match="The disk is full"):
        lab(recipe, tmp_path).trained("small", rung, "small")


def test_the_time_is_up_before_the_teacher_or_the_last_picks_are_made(
    recipe: Recipe, tmp_path: Path
) -> None:
    late = lab(recipe, tmp_path, time_is_up=True)
    with pytest.raises(UserError, match="time was up while the teacher was trained: the same"):
        late.teacher()
    with pytest.raises(UserError, match=r"time was up while the last picks .* more --within"):
        late.together({"small": recipe.candidates["small"]})
