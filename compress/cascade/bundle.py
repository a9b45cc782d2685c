"""A cascade that can be deployed as it is: its models, what each is shown, a script, a card."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from compress.cascade.cascade import Cascade
from compress.cascade.spec import FILE, CascadeSpec, CascadeStage
from compress.export.artifact import sha256_of, size_of
from compress.export.bundle import copied, filling, remedy, render, requirements
from compress.export.model_card import Fact, card, input_of
from compress.export.standalone import standalone
from compress.results.schema import CascadeFacts, Result
from compress.runtimes import package_of
from compress.utils import units
from compress.utils.errors import UserError
from compress.utils.files import write_text

SCRIPT = "compress.cascade.script:main"
ONNX = "compress.runtimes.onnxruntime:OnnxSession"
OPENVINO = "compress.runtimes.openvino:OpenVinoSession"
SESSIONS = {  # by runtime: what loads a model, and how with the measured number of threads
    "onnxruntime": (ONNX, "OnnxSession(path, {threads}, alone=False)"),
    "openvino": (OPENVINO, 'OpenVinoSession(path, {threads}, "f32")'),
    "openvino-bf16": (OPENVINO, 'OpenVinoSession(path, {threads}, "bf16")'),
}


def write_bundle(row: Result, source: Path, why: str, folder: Path) -> None:
    """Writes the folder; nothing is left in it unless all is right.

    Args:
        source: the cascade's folder that the row was measured with.
        why: a sentence for the card.

    Raises:
        UserError: the folder is not empty, the models are not those that were measured, or were in
            a runtime that no script is made for.
    """
    assert row.pipeline is not None
    script = _script(row)
    spec = CascadeSpec.load(source)
    with filling(folder) as made:
        stages = []
        for stage in spec.stages:
            model = source / stage.model
            copy = copied(row, model, made / f"{stage.name}{model.suffix}")
            stages.append(stage.model_copy(update={"model": copy.name}))
        models = [made / stage.model for stage in stages]
        named = [stage.name for stage in stages] == list(row.pipeline.networks)
        if not named or sha256_of_all(map(sha256_of, models)) != row.artifact.sha256:
            raise UserError(f"{source} is not the cascade that was measured. {remedy(row, source)}")
        spec = spec.model_copy(update={"stages": tuple(stages)})
        # With all that is usual, too: the script knows of no defaults.
        write_text(made / FILE, spec.model_dump_json(indent=1, exclude_none=True))
        cascade = Cascade.load(made, threads=1)
        facts = _facts(cascade, row.pipeline, made)
        texts = {
            "predict.py": script,
            "requirements.txt": requirements(row),
            "README.md": render("README.md", **card(row, why, facts, _always(cascade))),
        }
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")


def sha256_of_all(hashes: Iterable[str]) -> str:
    """What a cascade's row knows its models by: the hash of their hashes, in order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _script(row: Result) -> str:
    """The text of predict.py: what runs here, and how it is called there.

    Raises:
        UserError: the row is in a runtime from another package, or in torch.
    """
    runtime = row.artifact.runtime
    if runtime not in SESSIONS:
        raise UserError(
            f"A cascade is exported for {', '.join(SESSIONS)}, and this one was measured in "
            f"{runtime}: name one of them below measure: runtimes in its recipe, and run it again."
        )
    session, call = SESSIONS[runtime]
    return render(
        "cascade.py",
        package=package_of(runtime),
        runtime=runtime,
        text=standalone([SCRIPT, session]),
        call=call.format(threads=row.at_smallest_batch.threads),
    )


def _facts(cascade: Cascade, facts: CascadeFacts, folder: Path) -> Iterator[Fact]:
    """Say of each network what it is, what it is shown, and what it gives."""
    for network in cascade.networks:
        stage, spec = network.stage, network.spec
        model = folder / stage.model
        yield (
            stage.name,
            f"{facts.networks[stage.name]}, shown {_shown(stage)} ({input_of(spec)}); gives "
            f"{', '.join(spec.points) or spec.named}; {stage.model}, "
            f"{units.megabytes(size_of(model))} MB, sha256 {sha256_of(model)}",
        )
    said = facts.verdict
    if said.mean_iou is not None:
        yield "mean overlap of boxes (IoU)", units.significant(said.mean_iou)
    if said.median_angle_error_degrees is not None:
        yield "median angle error", f"{said.median_angle_error_degrees:.1f} degrees"


def _shown(stage: CascadeStage) -> str:
    if stage.crop is not None:
        what = f"a crop around {', '.join(stage.crop.around)}"
    elif stage.warp is not None:
        what = f"the photograph turned and scaled by {' and '.join(stage.warp)}"
    else:
        what = "the whole photograph"
    return f"{what} in {stage.turns} turns" if stage.turns > 1 else what


def _always(cascade: Cascade) -> str:
    if not cascade.classes:
        return "where the points are"
    names = f"with one of its {len(cascade.classes)} names"
    if not cascade.min_probability:
        return names
    return f"{names}, or that it is not sure (below {100 * cascade.min_probability:g} %)"
