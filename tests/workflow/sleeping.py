"""Stages that sleep, for what is tested of who computes them."""

import time
from pathlib import Path

from compress.methods.context import Context
from compress.workflow.cache import Stage


def sleeping(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Sleep for the seconds that the settings say, and leave a file."""
    time.sleep(stage.settings["seconds"])
    context.progress.note("slept")
    (folder / "slept").write_text(str(stage.settings["seconds"]))
