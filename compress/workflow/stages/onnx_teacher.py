"""Takes an ONNX file as the teacher, in the form of our own exports, and proves that it is so."""

from pathlib import Path

import numpy as np
import onnx

from compress.data.input_spec import InputSpec, normalise
from compress.export.onnx import TOLERANCE
from compress.export.reference_answers import reference_inputs
from compress.methods.context import Context
from compress.metrics.probabilities import Scale, note_on, probabilities_of, scale_of
from compress.models import onnx_network
from compress.models.candidate import Candidate
from compress.models.onnx_float32 import is_half
from compress.models.onnx_network import OnnxNetwork
from compress.models.onnx_teacher import (
    fingerprint,
    like_ours,
    noted_spec,
    plain,
    read_onnx,
    taken_by,
    with_outputs,
)
from compress.models.output_shapes import why_other
from compress.models.own_input import OwnInput
from compress.models.provenance import Provenance
from compress.recipe.schema import TeacherSettings
from compress.runtimes.onnxruntime import OnnxSession
from compress.runtimes.outputs import Outputs, by_name, joined
from compress.tasks import task_of, task_of_data
from compress.training.loop import finish
from compress.utils.errors import UserError
from compress.utils.files import atomic
from compress.workflow.cache import Stage
from compress.workflow.stages.teacher_input import notes_on, with_noted

VERSION = 1
FILE = "teacher.onnx"
CHECKED_IMAGES = 4
SEEN = 16  # images, besides the reference inputs, that tell probabilities from logits
HALF = 0.05  # what rounding to half precision may change, as a fraction of the outputs' deviation


def plan(settings: TeacherSettings, fit: str, data: Stage) -> Stage:
    """The file is known by its contents; no seed: nothing is drawn.

    Raises:
        UserError: no such file, or no teacher; what it or the recipe says of its input is wrong.
    """
    assert settings.onnx is not None
    path = Path(settings.onnx)
    given = read_onnx(path)
    normalised = {"mean", "std"} & settings.model_fields_set
    as_bytes = settings.input_spec("crop").keeps_bytes
    if normalised and not as_bytes and taken_by(given).kind == "uint8":
        raise UserError(
            f"teacher.onnx takes bytes (uint8) and normalises them itself: remove "
            f"{' and '.join(sorted(normalised))}, or give those of bytes as they are, mean 0 and "
            "std 1/255 = 0.003922."
        )
    settings = with_noted(settings, _own_input(given), "teacher.onnx")
    described = settings.in_key(include={"image_size", "channels", "mean", "std"})
    described |= {"onnx": fingerprint(given), "fit": fit}
    title = f"teacher {path.name}: the file as given"
    return Stage("onnx_teacher", title, VERSION, described, {"data": data}, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    data = context.data(inputs["data"])
    described = stage.settings
    given = read_onnx(context.files[described["onnx"]])
    noted = noted_spec(given)
    settings = TeacherSettings.from_key(described)
    for note in notes_on(settings, described["fit"], _own_input(given), "teacher.onnx"):
        context.progress.note(note)
    spec = settings.input_spec(described["fit"], **task_of_data(data).predicts(data))
    taken = taken_by(given)
    spec = spec.fed_as(taken.kind, taken.layout)
    if taken.channels is None:
        context.progress.note(
            f"teacher.onnx leaves the channels of an image free: it gets {spec.shape[0]}"
        )
    if noted is not None:
        spec = task_of(spec).check_weights({"spec": noted.model_dump(mode="json")})
    path = folder / FILE
    validation = data.indices("validation")
    chosen = validation[:: -(-len(validation) // SEEN)]
    images = normalise(context.pixels(data, inputs["data"]).of(chosen, spec), spec)
    for note in write_like_ours(given, path, images, spec):
        context.progress.note(f"teacher.onnx: {note}")
    network = OnnxNetwork(path)
    past = Provenance(("ONNX file",), deployed=FILE)
    candidate = Candidate(network, onnx_network.BUILDER, {}, spec, past)
    candidate.save(folder, stage.settings, inputs)
    finish(folder)


def _own_input(given: onnx.ModelProto) -> OwnInput | None:
    """Return what the file notes of its images; None: nothing."""
    noted = noted_spec(given)
    return None if noted is None else OwnInput.of_spec(noted)


def write_like_ours(
    given: onnx.ModelProto, path: Path, images: np.ndarray, spec: InputSpec
) -> list[str]:
    """Writes the file in our form, proven on real images; returns what is to be said of it.

    Args:
        images: float32 (n, 3, height, width), prepared.

    Raises:
        UserError: a file of other images or outputs than the spec's, or that cannot be asked for
            several images at once.
    """
    with atomic(path) as temporary:  # first as it was given, last in our form
        asked = plain(given, spec)
        onnx.save(asked, temporary)
        asked = with_outputs(asked, used_outputs(temporary, images, spec))
        onnx.save(asked, temporary)
        expected = alone(temporary, images, spec)
        scale, notes = _scale(temporary, expected, spec)
        some = images[:CHECKED_IMAGES]
        if is_half(given):
            notes.append("in half precision; its float32 twin is used")
            onnx.save(given, temporary)
            check_half(alone(temporary, some, spec), expected)
        logits = task_of(spec).logits
        place = 0 if logits is None else list(spec.outputs).index(logits)
        onnx.save(like_ours(asked, spec, scale, place), temporary)
        first = {name: x[: len(some)] for name, x in expected.items()}
        check_same(first, temporary, some, spec, scale)
    return notes


def used_outputs(file: Path, images: np.ndarray, spec: InputSpec) -> list[str]:
    """Return what the file calls the outputs that the spec names.

    Raises:
        UserError: the file has no such outputs.
    """
    session = OnnxSession(file, threads=1, size=spec.size)
    given = session.run(np.resize(images, (session.batch_size or 1, *images.shape[1:])))
    found = by_name(given, spec.outputs)
    return [next(k for k, x in given.items() if x is found[name]) for name in spec.outputs]


def _scale(file: Path, expected: Outputs, spec: InputSpec) -> tuple[Scale | None, list[str]]:
    """Return on what scale a file answers where logits are expected, and what to say of it.

    Args:
        expected: its answers to real images.
    """
    task = task_of(spec)
    logits = task.logits
    if logits is None:
        return None, []
    unreal = alone(file, reference_inputs(spec), spec)
    answers = np.concatenate([expected[logits], unreal[logits]])
    note = note_on(answers, task.probabilities)
    return scale_of(answers, task.probabilities), [] if note is None else [note]


def alone(file: Path, images: np.ndarray, spec: InputSpec) -> dict[str, np.ndarray]:
    """Return what a file answers to each image alone, by the spec's names.

    Raises:
        UserError: outputs that are not one for each class, say.
    """
    session = OnnxSession(file, threads=1, size=spec.size)
    names = tuple(spec.outputs)
    batch = session.batch_size or 1
    answers = [
        by_name(session.run(np.repeat(p[None], batch, axis=0)), spec.outputs) for p in images
    ]
    found = joined([{name: np.atleast_1d(x[name])[:1] for name in names} for x in answers])
    for name, shape in spec.outputs.items():
        if found[name].shape[1:] != shape:
            given = found[name].shape[1:]
            alike = len(given) == len(shape)
            usual = (
                "use the images that it was trained on" if alike else f"let it predict {spec.named}"
            )
            why = why_other(answers[0][name], batch, shape, spec) or usual
            raise UserError(
                f"teacher.onnx gives outputs of {given} for an image, but the data asks for "
                f"{shape}: {why}."
            )
    return found


def check_half(half: Outputs, twin: Outputs) -> None:
    """Compares a file's answers in half precision with those of its float32 twin.

    Raises:
        UserError: they differ by more than rounding can explain.
    """
    for name, given in half.items():
        if not np.abs(given - twin[name][: len(given)]).max() <= HALF * (given.std() + 1e-12):
            raise UserError(
                "teacher.onnx answers otherwise in float32 than in half precision: export it in "
                "float32."
            )


def check_same(
    expected: Outputs, ours: Path, images: np.ndarray, spec: InputSpec, scale: Scale | None
) -> None:
    """Compares our form of the file, asked for all images at once, with the file as it was given.

    Args:
        expected: what that answered to each image alone.
        scale: of what function it gives the probabilities; ours gives logits.

    Raises:
        UserError: other outputs than those of the file that was given.
    """
    names = tuple(spec.outputs)
    try:
        got = by_name(OnnxSession(ours, threads=1).run(images), spec.outputs)
    except UserError:  # an operation holds on to the batch it was exported with
        got = {name: np.full(1, np.nan) for name in names}
    logits = task_of(spec).logits
    if scale is not None and logits is not None:
        got[logits] = probabilities_of(got[logits], scale)
    if not all(_same(got[name], expected[name]) for name in names):
        raise UserError(
            f"teacher.onnx cannot be asked for {len(images)} images at once as for each alone. "
            "Export it with a free batch dimension: torch.onnx.export(…, dynamic_shapes=({0: "
            '"batch"},)).'
        )


def _same(got: np.ndarray, expected: np.ndarray) -> bool:
    """Whether outputs are the same, to within rounding."""
    if got.shape != expected.shape:
        return False
    return bool(np.abs(got - expected).max() <= TOLERANCE * (expected.std() + 1e-12))
