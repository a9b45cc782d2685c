"""Accuracy and predictions of an ONNX file, outside any recipe; needs no torch."""

from pathlib import Path

import numpy as np

from compress.artifact import spec_of
from compress.data.layouts import read_folder
from compress.data.pictures import DataSet
from compress.errors import UserError
from compress.input_spec import preprocess
from compress.measure.accuracy import run_on_pictures, score
from compress.measure.machine import usable_threads
from compress.results import Accuracy
from compress.runtimes.onnxruntime import OnnxSession


def evaluate_file(
    model: Path,
    data_path: Path,
    split: str = "validation",
    threads: int | None = None,
    spec_file: Path | None = None,
) -> Accuracy:
    """Accuracy on labelled pictures; classes are matched by name.

    Args:
        split: "validation", "train" or "all". Data that knows no split is taken whole.
        spec_file: JSON of an `InputSpec`, for files that were not exported by compress.

    Raises:
        UserError: pictures of classes that the model does not know, none of the split, or
            anything wrong with the file or the data.
    """
    if split not in ("validation", "train", "all"):
        raise UserError(f"--split {split}: choose validation, train or all.")
    spec = spec_of(model, spec_file)
    data = read_folder(data_path)
    unknown = sorted(set(data.classes) - set(spec.classes))
    if unknown:
        raise UserError(
            f"{data_path} has {len(unknown)} classes that {model} does not know "
            f"({', '.join(unknown[:3])}): it was trained on other labels."
        )
    indices = _chosen(data, split)
    if not len(indices):
        raise UserError(f"{data_path} has no labelled pictures.")
    labels = np.array([spec.classes.index(data.pictures[i].label or "") for i in indices])
    session = OnnxSession(model, threads or usable_threads())
    logits = run_on_pictures(session, data, indices, spec)
    if logits.shape[1] != len(spec.classes):
        raise UserError(
            f"{model} gives {logits.shape[1]} numbers for a picture, but its input spec names "
            f"{len(spec.classes)} classes."
        )
    return score(logits, labels)


def _chosen(data: DataSet, split: str) -> np.ndarray:
    labelled = np.flatnonzero([p.label is not None for p in data.pictures])
    if split == "all" or all(data.pictures[i].split is None for i in labelled):
        return labelled
    chosen = data.indices("validation" if split == "validation" else "train")
    if not len(chosen):
        raise UserError(f"{data.root} has no pictures in its {split} split: use --split all.")
    return chosen


def predict_files(
    model: Path,
    pictures: list[Path],
    threads: int | None = None,
    spec_file: Path | None = None,
    top: int = 5,
) -> list[list[tuple[str, float]]]:
    """The `top` most probable class names of each picture, with softmax probabilities."""
    spec = spec_of(model, spec_file)
    session = OnnxSession(model, threads or usable_threads())
    found = []
    for picture in pictures:
        logits = session.run(preprocess([picture], spec))[0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        best = np.argsort(-p, kind="stable")[:top]
        found.append([(spec.classes[i], float(p[i])) for i in best.tolist()])
    return found
