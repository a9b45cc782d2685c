"""Accuracy and predictions of a deployed file, outside any recipe; needs no torch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.dataset import Dataset
from compress.data.image_cache import drop_unreadable
from compress.data.input_spec import InputSpec, preprocess
from compress.export.artifact import spec_of
from compress.export.reference_answers import answers, difference_here
from compress.measure.gallery import make_gallery, read_gallery, with_gallery
from compress.measure.inference import run_on_images
from compress.measure.machine import machine, usable_threads
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.metrics.probabilities import Scale, logits_of, note_on, scale_of
from compress.models.sessions import infer, open_session
from compress.results.schema import Accuracy, Deployed
from compress.runtimes import Session, runtime_for
from compress.runtimes.outputs import Outputs, joined
from compress.tasks import task_of
from compress.utils.errors import UserError

SEEN = 16  # images, besides the reference inputs, that tell probabilities from logits


@dataclass(frozen=True)
class Evaluation:
    """What `compress eval` answers: the accuracy, on which images, how they were read."""

    accuracy: Accuracy
    split: str  # "validation", "train", or "all" (also where the data has no split)
    skipped: tuple[str, ...]
    read: tuple[str, ...]  # how tables and folders were read
    differs: str | None  # how this machine answers otherwise than where the file was judged
    note: str | None  # what its answers were taken for, where they are no logits


def evaluate_file(
    model: Path,
    data_path: Path,
    split: str | None = None,
    threads: int | None = None,
    spec_file: Path | None = None,
    columns: Sequence[str] = (),
    tolerance: KeypointTolerance = USUAL,
    runtime: Deployed | None = None,
) -> Evaluation:
    """Accuracy on labelled images; classes are matched by name, points by their columns.

    Args:
        split: "validation", "train" or "all"; None is validation where the data has a split of its
            own (split.csv, or train and validation folders), else all.
        spec_file: JSON of an `InputSpec`, for files that were not exported by compress.
        columns: that the model's points are annotated in, as `PointColumns` has them.
        tolerance: how near points must be to be right.
        runtime: that answers; None: the file's own, else onnxruntime.

    Raises:
        UserError: images of classes that the model does not know, none of the split, or
            anything wrong with the file or the data.
    """
    spec, runtime = spec_of(model, spec_file), runtime or runtime_for(model)
    task = task_of(spec)
    notes: list[str] = []
    data = labelled(spec, data_path, columns, notes.append)
    session = _opened(model, spec, threads, runtime)
    differs = difference_here(session, runtime, machine())
    used, indices = chosen(data, split)

    some = indices[:: -(-len(indices) // SEEN)]
    scale, note = _scale(session, spec, run_on_images(session, data.paths(some), spec))

    def ask(asked: np.ndarray) -> Outputs:
        return _as_logits(run_on_images(session, data.paths(asked), spec), spec, scale)

    scored = task.score(ask, data, indices, tolerance, in_run=False)
    return Evaluation(scored, used, (*data.skipped, *notes), data.notes, differs, note)


def labelled(
    spec: InputSpec, folder: Path, columns: Sequence[str], note: Callable[[str], None]
) -> Dataset:
    """Return images to judge a network on, without those that cannot be read.

    Args:
        columns: as `evaluate_file` takes them.

    Raises:
        UserError: they say nothing of what the network predicts.
    """
    task = task_of(spec)
    return task.checked(drop_unreadable(task.read_more(folder, columns), lambda *_: None), note)


def chosen(data: Dataset, split: str | None) -> tuple[str, np.ndarray]:
    """Which part of labelled data to judge on, and the positions of its images.

    Args:
        split: as `evaluate_file` takes it.

    Raises:
        UserError: no such part, or no images in it.
    """
    labelled = np.flatnonzero([p.is_labelled for p in data.images])
    if not len(labelled):
        raise UserError(f"{data.root} has no labelled images.")
    has_split = all(data.images[i].split is not None for i in labelled)
    used = split or ("validation" if has_split else "all")
    if used == "all":
        return used, labelled
    if used not in ("validation", "train"):
        raise UserError(f"--split {used}: choose validation, train or all.")
    if not has_split:
        raise UserError(f"{data.root} has no split: use --split all, or add a split.csv.")
    found = data.indices("validation" if used == "validation" else "train")
    if not len(found):
        raise UserError(f"{data.root} has no images in its {used} split: use --split all.")
    return used, found


def predict_files(
    model: Path,
    images: list[Path],
    threads: int | None = None,
    spec_file: Path | None = None,
    say: Callable[[str], None] = lambda note: None,
    top: int | None = None,
    gallery: Path | None = None,
) -> Iterator[Any]:
    """For each image what the model answers, as its task tells it.

    A classifier: the five most probable classes with their softmax probabilities. A model of
    points: x and y of each by name, in pixels of the upright image. An image that cannot be read
    gives its error (a UserError), and the next one follows.

    Args:
        say: is told what the answers were taken for, where they are no logits.
        top: how many of the most probable instead, at least 1.
        gallery: the file of one, or a folder of images, that takes the place of the model's own.
    """
    spec = spec_of(model, spec_file)
    if gallery is not None and gallery.is_dir():
        spec = with_gallery(spec, make_gallery(model, gallery, threads, spec_file))
    elif gallery is not None:
        spec = with_gallery(spec, read_gallery(gallery, model))
    task = task_of(spec)
    session = _opened(model, spec, threads, runtime_for(model))
    readable = (x for x in _prepared(images[:SEEN], spec) if isinstance(x, np.ndarray))
    seen = [infer(session, x, spec) for x in readable]
    scale, note = _scale(session, spec, *seen)
    if note is not None:
        say(note)
    for image, prepared in zip(images, _prepared(images, spec), strict=True):
        if isinstance(prepared, UserError):
            yield prepared
            continue
        answered = _as_logits(infer(session, prepared, spec), spec, scale)
        yield task.first(next(task.answers(answered, [image])), top)


def _prepared(images: Sequence[Path], spec: InputSpec) -> Iterator[np.ndarray | UserError]:
    """Yield each image as the network takes it, float32 (1, 3, height, width), or its error."""
    for image in images:
        try:
            yield preprocess([image], spec)
        except UserError as error:
            yield error


def _opened(model: Path, spec: InputSpec, threads: int | None, runtime: Deployed) -> Session:
    """Load the file, for the spec's size where it leaves that free."""
    size = (spec.height, spec.width)
    return open_session(model, runtime, threads or usable_threads(), size=size)


def _scale(session: Session, spec: InputSpec, *seen: Outputs) -> tuple[Scale | None, str | None]:
    """Return on what scale a file answers where logits are expected, and what to say of it.

    Args:
        seen: its answers to some images; those to the reference inputs are added.
    """
    task = task_of(spec)
    if task.logits is None:
        return None, None
    answered = joined([*seen, answers(session, spec)])[task.logits]
    return scale_of(answered, task.probabilities), note_on(answered, task.probabilities)


def _as_logits(outputs: Outputs, spec: InputSpec, scale: Scale | None) -> Outputs:
    """Return the outputs with logits, whatever scale the file gives them on."""
    name = task_of(spec).logits
    return outputs if name is None else {**outputs, name: logits_of(outputs[name], scale)}
