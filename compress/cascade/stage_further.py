"""Judges a cascade on further annotated photographs, which a report lists one by one."""

from pathlib import Path

from compress.cascade.cascade import Cascade
from compress.cascade.evaluate import judge
from compress.cascade.stages import FOLDER, save
from compress.data.layouts import read_folder
from compress.methods.context import Context
from compress.workflow.cache import Stage

VERSION = 1


def plan(name: str, fingerprint: str, cascade: Stage) -> Stage:
    """Apart from the cascade's own stage, so that other photographs leave its timing as it is.

    Args:
        name: of the photographs, which are known by their contents.
    """
    described = {"fingerprint": fingerprint}
    title = f"{cascade.title}: {name}"
    return Stage("cascade_further", title, VERSION, described, {"of": cascade}, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    assert context.data_path is not None
    data = read_folder(context.data_path)
    labelled = [i for i, image in enumerate(data.images) if image.label is not None]
    cascade = Cascade.load(inputs["of"] / FOLDER, context.threads, context.allowed)
    save(judge(cascade, data, labelled, context.progress.advance), folder)
