"""Caches what the teacher says of every augmented view, once for all students."""

from pathlib import Path

from compress.data.dataset import Split
from compress.methods.context import Context
from compress.methods.distill.teacher_cache import compute, make_online
from compress.models.candidate import Candidate
from compress.training.batches import draw_bank
from compress.training.settings import ViewSettings
from compress.workflow.cache import Stage

VERSION = 1


def plan(settings: ViewSettings, seed: int, data: Stage, teacher: Stage) -> Stage:
    title = f"teacher outputs: {settings.count} views of each image"
    described = settings.in_key() | {"seed": seed}
    inputs = {"data": data, "teacher": teacher}
    return Stage("teacher_outputs", title, VERSION, described, inputs, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    described = {k: v for k, v in stage.settings.items() if k in ViewSettings.model_fields}
    settings = ViewSettings.model_validate(described)
    data = context.data(inputs["data"])
    splits: list[Split] = ["train"]
    splits += ["unlabelled"] if settings.unlabelled else []
    splits += [data.watched] if settings.validation else []
    online = make_online(
        Candidate.load(inputs["teacher"], context.allowed),
        context.pixels(data, inputs["data"]),
        settings.augmentation,
        context.device,
        settings.precision,
    )
    bank = draw_bank(settings.count, len(data.images), settings.augmentation, context.seed)
    pool = data.indices(*splits)
    compute(online, data, bank, pool, settings.top_k, folder, context.progress, settings.attention)
