"""Takes an ONNX file as the teacher, in the form of our own exports, and proves that it is so."""

from pathlib import Path

import numpy as np
import onnx

from compress.data.input_spec import InputSpec, preprocess
from compress.export.onnx import TOLERANCE
from compress.methods.context import Context
from compress.models import onnx_network
from compress.models.candidate import Candidate
from compress.models.class_names import check_class_names
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
from compress.training.loop import finish
from compress.utils.errors import UserError
from compress.utils.files import atomic
from compress.workflow.cache import Stage

VERSION = 1
FILE = "teacher.onnx"
CHECKED_PICTURES = 4


def plan(settings: TeacherSettings, fit: str, data: Stage) -> Stage:
    """The file is known by its contents; no seed: nothing is drawn."""
    assert settings.onnx is not None
    path = Path(settings.onnx)
    described = {
        "onnx": fingerprint(read_onnx(path)),
        "image_size": settings.image_size,
        "mean": settings.mean,
        "std": settings.std,
        "fit": fit,
    }
    title = f"teacher {path.name}: the file as given"
    return Stage("onnx_teacher", title, VERSION, described, {"data": data}, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    assert context.weights_path is not None
    data = context.data(inputs["data"])
    described = stage.settings
    given = read_onnx(context.weights_path)
    noted = noted_spec(given)
    spec = InputSpec(
        height=described["image_size"],
        width=described["image_size"],
        mean=described["mean"],
        std=described["std"],
        fit=described["fit"],
        classes=check_class_names(noted and list(noted.classes), data.classes),
        points=data.points,
    )
    path = folder / FILE
    with atomic(path) as temporary:
        onnx.save(like_ours(given, spec), temporary)
    chosen = data.indices("validation")[:CHECKED_PICTURES]
    pictures = preprocess(data.paths(chosen), spec)
    check_same(context.weights_path, path, pictures, spec, gives_probabilities(given))
    network = OnnxNetwork(path)
    past = Provenance(("ONNX file",), deployed=FILE)
    candidate = Candidate(network, onnx_network.BUILDER, {}, spec, past)
    candidate.save(folder, stage.settings, inputs)
    finish(folder)


def check_same(
    given: Path, ours: Path, pictures: np.ndarray, spec: InputSpec, probabilities: bool
) -> None:
    """Compares our form of the file, asked for all pictures at once, with the file as it was given.

    Raises:
        UserError: pictures of another size, outputs that are not one for each class, or others
            than those of the file that was given.
    """
    session = OnnxSession(given, threads=1)
    if session.picture_size != (spec.height, spec.width):
        raise UserError(
            f"teacher.onnx takes pictures of {session.picture_size} (height, width), or has its "
            f"channels last; teacher.image_size is {spec.height}. Give its own size; channels "
            "must come before height and width."
        )
    batch = session.batch_size or 1
    expected = np.concatenate(
        [session.run(np.repeat(p[None], batch, axis=0))[:1] for p in pictures]
    )
    if expected.shape != (len(pictures), spec.outputs):
        raise UserError(
            f"teacher.onnx gives outputs of {expected.shape[1:]} for a picture, but the data asks "
            f"for {spec.outputs}: use the pictures that it was trained on."
        )
    try:
        got = OnnxSession(ours, threads=1).run(pictures)
    except UserError:  # an operation holds on to the batch it was exported with
        got = np.full(1, np.nan)
    if probabilities:
        got = np.exp(got - got.max(-1, keepdims=True))
        got /= got.sum(-1, keepdims=True)
    difference = np.abs(got - expected).max() if got.shape == expected.shape else np.inf
    if not difference <= TOLERANCE * (expected.std() + 1e-12):
        raise UserError(
            f"teacher.onnx cannot be asked for {len(pictures)} pictures at once as for each alone. "
            "Export it with a free batch dimension: torch.onnx.export(…, dynamic_shapes=({0: "
            '"batch"},)).'
        )
