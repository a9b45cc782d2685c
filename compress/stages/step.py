"""Applies one compression step to a candidate."""

from pathlib import Path

from compress import steps
from compress.context import Context, StepInputs
from compress.stage import Stage
from compress.training.loop import finish


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    module = steps.discover()[stage.settings["step"]]
    data = context.data(inputs["data"])
    step_inputs = StepInputs(
        data=data,
        pixels=context.pixels(data, inputs["data"]),
        previous=inputs["previous"],
        teacher_folder=inputs["teacher"],
        teacher_outputs=inputs.get("teacher_outputs"),
        teacher_artifact=inputs.get("teacher_artifact"),
        folder=folder,
        allowed=context.allowed,
    )
    described = dict(stage.settings["settings"])
    if "control" in module.Settings.model_fields:
        described["control"] = False  # a stage makes one model; the plan made the control another
    settings = module.Settings.model_validate(described)
    candidate = module.apply(step_inputs, settings, context)
    candidate.save(folder, stage)
    finish(folder)
