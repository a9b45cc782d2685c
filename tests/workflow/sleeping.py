"""Stages that sleep, for what is tested of who computes them."""

import time
from pathlib import Path

import torch

from compress.measure.machine import machine
from compress.methods.context import Context
from compress.utils.errors import StorageFailed, UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage


def sleeping(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Sleep for the seconds that the settings say, and leave a file, or fail as they say.

    Raises:
        UserError, StorageFailed: what they say.
    """
    time.sleep(stage.settings["seconds"])
    if "fails" in stage.settings:
        raise UserError(stage.settings["fails"])
    if "full" in stage.settings:
        raise StorageFailed(stage.settings["full"])
    (folder / "slept").write_text(str(stage.settings["seconds"]))


def context_in(folder: Path, progress: Progress) -> Context:
    """Return what stages are told that need nothing."""
    return Context(
        seed=1,
        device=torch.device("cpu"),
        threads=1,
        allowed=(),
        progress=progress,
        data_path=None,
        files={},
        tables=folder,
        machine=machine(),
    )
