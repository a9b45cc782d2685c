"""Decides what a step will do: what pays on this machine, where it measures."""

from pathlib import Path

from compress import steps
from compress.context import Context
from compress.stage import Stage
from compress.stages.step import described, given


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    module = steps.discover()[stage.settings["step"]]
    settings = module.Settings.model_validate(described(stage))
    module.decide(given(inputs, folder, context), settings, context).save(folder)
