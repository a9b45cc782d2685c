"""Takes an ONNX file as the teacher, in the form of our own exports, and proves that it is so."""

from pathlib import Path

import numpy as np
import onnx

from compress.data.input_spec import InputSpec, preprocess
from compress.export.onnx import TOLERANCE
from compress.methods.context import Context
from compress.models import onnx_network
from compress.models.candidate import Candidate
from compress.models.onnx_network import OnnxNetwork
from compress.models.onnx_teacher import (
    fingerprint,
    gives_probabilities,
    like_ours,
    noted_spec,
    read_onnx,
)
from compress.models.provenance import Provenance
from compress.recipe.schema import TeacherSettings
from compress.runtimes.onnxruntime import OnnxSession
from compress.runtimes.outputs import by_name, joined
from compress.tasks import task_of, task_of_data
from compress.training.loop import finish
from compress.utils.errors import UserError
from compress.utils.files import atomic
from compress.workflow.cache import Stage

VERSION = 1
FILE = "teacher.onnx"
CHECKED_IMAGES = 4


def plan(settings: TeacherSettings, fit: str, data: Stage) -> Stage:
    """The file is known by its contents; no seed: nothing is drawn."""
    assert settings.onnx is not None
    path = Path(settings.onnx)
    described = settings.in_key(include={"image_size", "channels", "mean", "std"})
    described |= {"onnx": fingerprint(read_onnx(path)), "fit": fit}
    title = f"teacher {path.name}: the file as given"
    return Stage("onnx_teacher", title, VERSION, described, {"data": data}, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    assert context.weights_path is not None
    data = context.data(inputs["data"])
    described = stage.settings
    given = read_onnx(context.weights_path)
    noted = noted_spec(given)
    settings = TeacherSettings.from_key(described)
    spec = settings.input_spec(described["fit"], **task_of_data(data).predicts(data))
    if noted is not None:
        spec = task_of(spec).check_weights({"spec": noted.model_dump(mode="json")})
    path = folder / FILE
    with atomic(path) as temporary:
        onnx.save(like_ours(given, spec), temporary)
    chosen = data.indices("validation")[:CHECKED_IMAGES]
    images = preprocess(data.paths(chosen), spec)
    check_same(context.weights_path, path, images, spec, gives_probabilities(given))
    network = OnnxNetwork(path)
    past = Provenance(("ONNX file",), deployed=FILE)
    candidate = Candidate(network, onnx_network.BUILDER, {}, spec, past)
    candidate.save(folder, stage.settings, inputs)
    finish(folder)


def check_same(
    given: Path, ours: Path, images: np.ndarray, spec: InputSpec, probabilities: bool
) -> None:
    """Compares our form of the file, asked for all images at once, with the file as it was given.

    Raises:
        UserError: images of another size, outputs that are not one for each class, or others
            than those of the file that was given.
    """
    session = OnnxSession(given, threads=1)
    if session.image_size != spec.size:
        raise UserError(
            f"teacher.onnx takes images of {session.image_size} (height, width), or has its "
            f"channels last; teacher.image_size is {spec.height} x {spec.width}. Give its own "
            "size; channels must come before height and width."
        )
    if session.channels != spec.shape[0]:
        grey = "channels: grey and one number" if session.channels == 1 else "three numbers"
        raise UserError(
            f"teacher.onnx takes images of {session.channels} channels, and is to get "
            f"{spec.shape[0]}: give {grey} in mean and std (1 and 3 channels are possible)."
        )
    names = tuple(spec.outputs)
    batch = session.batch_size or 1
    alone = [by_name(session.run(np.repeat(p[None], batch, axis=0)), names) for p in images]
    expected = joined([{name: x[name][:1] for name in names} for x in alone])
    for name, shape in spec.outputs.items():
        if expected[name].shape[1:] != shape:
            raise UserError(
                f"teacher.onnx gives outputs of {expected[name].shape[1:]} for an image, but the "
                f"data asks for {shape}: use the images that it was trained on."
            )
    try:
        got = by_name(OnnxSession(ours, threads=1).run(images), names)
    except UserError:  # an operation holds on to the batch it was exported with
        got = {name: np.full(1, np.nan) for name in names}
    if probabilities:
        logits = got[names[0]]
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        got[names[0]] = odds / odds.sum(-1, keepdims=True)
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
