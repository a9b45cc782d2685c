"""Does what a step can do before anything is measured: training, and ranges for int8."""

import shutil
from pathlib import Path

from compress import steps
from compress.context import Context
from compress.stage import Stage
from compress.stages.step import described, given
from compress.training.loop import finish


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    module = steps.discover()[stage.settings["step"]]
    settings = module.Settings.model_validate(described(stage))
    candidate = module.prepare(given(inputs, folder, context), settings, context)
    if candidate.deployed is not None:  # a network that is a file travels with its weights
        shutil.copyfile(inputs["previous"] / candidate.deployed, folder / candidate.deployed)
    candidate.save(folder, stage.settings, inputs)
    finish(folder)
