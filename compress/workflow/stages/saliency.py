"""What a candidate's answers rest on, on validation images with an annotated box.

Occlusion is of the deployed file in its runtime. The other methods need gradients: they are of the
network in torch that the file was made of. Both explain the class that the file names. A network
that names none can show its answers, as far as they can be drawn.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec, normalise
from compress.export.artifact import Artifact
from compress.measure.inference import run_on_decoded
from compress.measure.saliency.box_share import COLUMNS, area_inside, boxed, looks, share_inside
from compress.measure.saliency.gallery import IMAGES, drawn_answers, gallery
from compress.measure.saliency.gradients import deconvolution, grad_cam
from compress.measure.saliency.occlusion import occlusion_of_file
from compress.measure.saliency.settings import SaliencySettings
from compress.methods.context import Context
from compress.models.candidate import Candidate
from compress.models.sessions import open_session
from compress.results.schema import Looks, Machine, Runtime, Saliency, SaliencyMethod
from compress.runtimes import Session, package_of
from compress.tasks import task_of
from compress.utils.errors import UserError
from compress.utils.files import write_text
from compress.utils.seeding import generator
from compress.workflow.cache import Stage

VERSION = 2
FILE = "saliency.json"
NO_BOXES = (
    "Where it looks cannot be told: no validation image has a box (annotations "
    f"{', '.join(COLUMNS)}, in pixels of the image)."
)
NO_CLASS = "Saliency explains the score of a class, and this network names none."
BY_GRADIENTS: dict[SaliencyMethod, Callable[..., np.ndarray]] = {
    "grad_cam": grad_cam,
    "deconvolution": deconvolution,
}


def plan(
    name: str,
    settings: SaliencySettings,
    runtime: Runtime,
    machine: Machine,
    seed: int,
    data: Stage,
    model: Stage,
    artifact: Stage,
) -> Stage:
    """Where a candidate looks depends on its runtime as its accuracy does."""
    described = {
        "settings": settings.in_key(),
        "runtime": runtime,
        "version": machine.versions.get(package_of(runtime)),
        "cpu_flags": machine.cpu_flags,
        "seed": seed,
    }
    inputs = {"data": data, "model": model, "artifact": artifact}
    return Stage("saliency", f"{name}: where it looks", VERSION, described, inputs, run)


def run(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    artifact = Artifact.load(inputs["artifact"])
    names_classes = task_of(artifact.spec).explained is not None
    found = (_explained if names_classes else _drawn)(stage, artifact, inputs, context)
    write_text(folder / FILE, found.model_dump_json())


def _explained(
    stage: Stage, artifact: Artifact, inputs: dict[str, Path], context: Context
) -> Saliency:
    """What the class rests on that the network names."""
    settings = SaliencySettings.from_key(stage.settings["settings"])
    data, spec = context.data(inputs["data"]), artifact.spec
    chosen, boxes = _chosen(data, spec, settings.images, stage.settings["seed"])
    notes = [] if len(boxes) else [NO_BOXES]
    maps: dict[SaliencyMethod, np.ndarray] = {}
    shown: dict[str, list[str]] = {}
    if len(boxes) or settings.gallery:
        explained = task_of(spec).explained
        assert explained is not None
        decoded = context.pixels(data, inputs["data"])
        pixels = decoded.of(chosen, spec)
        session = _session(stage, artifact, context)
        targets = run_on_decoded(session, decoded, chosen, spec)[explained].argmax(1)
        images = normalise(pixels, spec)
        if "occlusion" in settings.methods:
            maps["occlusion"] = occlusion_of_file(
                session, images, targets, spec, explained, context.progress.advance
            )
        candidate = Candidate.load(inputs["model"], context.allowed)
        maps |= _from_gradients(candidate, settings.methods, images, targets, notes)
        if settings.gallery:
            shown = gallery(pixels, maps, boxes)
    return _judged(maps, boxes, notes).model_copy(update={"gallery": shown})


def _drawn(stage: Stage, artifact: Artifact, inputs: dict[str, Path], context: Context) -> Saliency:
    """The answers of a network that names no class, drawn if a gallery is asked for."""
    settings = SaliencySettings.from_key(stage.settings["settings"])
    data, spec = context.data(inputs["data"]), artifact.spec
    task = task_of(spec)
    if not (settings.gallery and task.draws):
        way_out = " Its answers can be drawn: saliency: {gallery: true}." if task.draws else ""
        return Saliency(images=0, notes=[NO_CLASS + way_out])
    chosen, _ = _chosen(data, spec, settings.images, stage.settings["seed"])
    decoded, session = context.pixels(data, inputs["data"]), _session(stage, artifact, context)
    outputs = run_on_decoded(session, decoded, chosen[:IMAGES], spec)
    files = [data.root / data.images[i].path for i in chosen[:IMAGES]]
    return Saliency(images=0, gallery=drawn_answers(task, outputs, files))


def _session(stage: Stage, artifact: Artifact, context: Context) -> Session:
    return open_session(artifact.path, stage.settings["runtime"], context.threads, context.allowed)


def load(folder: Path) -> Saliency:
    return Saliency.model_validate_json((folder / FILE).read_text("utf-8"))


def _chosen(data: Dataset, spec: InputSpec, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Validation images with a box, and the boxes; where none has one, any and no boxes."""
    validation = data.indices("validation")
    indices, boxes = boxed(data, validation, spec)
    pool = indices if len(indices) else validation
    drawn = np.sort(generator(seed, "saliency").permutation(len(pool))[:count])
    return pool[drawn], boxes[drawn] if len(indices) else boxes


def _from_gradients(
    candidate: Candidate,
    methods: Sequence[SaliencyMethod],
    images: np.ndarray,
    targets: np.ndarray,
    notes: list[str],
) -> dict[SaliencyMethod, np.ndarray]:
    """Maps by method; a method that the network does not allow is noted, and the rest goes on."""
    maps: dict[SaliencyMethod, np.ndarray] = {}
    for method in dict.fromkeys(methods):
        if method in BY_GRADIENTS:
            try:
                maps[method] = BY_GRADIENTS[method](candidate.model, images, targets)
            except UserError as error:
                notes.append(str(error))
    if maps and candidate.deployed is not None:
        notes.append(
            f"{' and '.join(maps)} explain the network that the deployed file was made of: the "
            "file itself gives no gradients."
        )
    return maps


def _judged(
    maps: dict[SaliencyMethod, np.ndarray], boxes: np.ndarray, notes: list[str]
) -> Saliency:
    """The share of each method's maps in the boxes."""
    areas = area_inside(boxes)
    found: dict[SaliencyMethod, Looks] = {}
    for method, map_ in maps.items() if len(boxes) else ():
        if said := looks(share_inside(map_, boxes), areas):
            found[method] = said
        else:
            notes.append(f"{method}: fewer than two images have a map that is not empty.")
    return Saliency(
        images=len(boxes),
        area_share=float(areas.mean()) if len(boxes) else None,
        looks=found,
        notes=notes,
    )
