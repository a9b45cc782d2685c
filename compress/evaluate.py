"""Accuracy and predictions of a deployed file, outside any recipe; needs no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.artifact import spec_of
from compress.data.layouts import read_folder
from compress.data.pictures import DataSet
from compress.data.pixels import drop_unreadable
from compress.errors import UserError
from compress.input_spec import preprocess
from compress.measure.accuracy import infer, run_on_pictures, score
from compress.measure.machine import usable_threads
from compress.results import Accuracy
from compress.runtimes import open_session, runtime_for


@dataclass(frozen=True)
class Evaluation:
    """What `compress eval` answers: the accuracy, on which pictures, and what was left out."""

    accuracy: Accuracy
    split: str  # "validation", "train", or "all" (also where the data has no split)
    skipped: tuple[str, ...]


def evaluate_file(
    model: Path,
    data_path: Path,
    split: str | None = None,
    threads: int | None = None,
    spec_file: Path | None = None,
) -> Evaluation:
    """Accuracy on labelled pictures; classes are matched by name.

    Args:
        split: "validation", "train" or "all"; None is validation where the data has a split of its
            own (split.csv, or train and validation folders), else all.
        spec_file: JSON of an `InputSpec`, for files that were not exported by compress.

    Raises:
        UserError: pictures of classes that the model does not know, none of the split, or
            anything wrong with the file or the data.
    """
    spec = spec_of(model, spec_file)
    data = drop_unreadable(read_folder(data_path), lambda done, total: None)
    unknown = sorted(set(data.classes) - set(spec.classes))
    if unknown:
        raise UserError(
            f"{data_path} has {len(unknown)} classes that {model} does not know "
            f"({', '.join(unknown[:3])}): it was trained on other labels."
        )
    used, indices = _chosen(data, split)
    labels = np.array([spec.classes.index(data.pictures[i].label or "") for i in indices])
    session = open_session(model, runtime_for(model), threads or usable_threads())
    logits = run_on_pictures(session, data.paths(indices), spec)
    return Evaluation(score(logits, labels), used, data.skipped)


def _chosen(data: DataSet, split: str | None) -> tuple[str, np.ndarray]:
    labelled = np.flatnonzero([p.label is not None for p in data.pictures])
    if not len(labelled):
        raise UserError(f"{data.root} has no labelled pictures.")
    has_split = all(data.pictures[i].split is not None for i in labelled)
    used = split or ("validation" if has_split else "all")
    if used == "all":
        return used, labelled
    if used not in ("validation", "train"):
        raise UserError(f"--split {used}: choose validation, train or all.")
    if not has_split:
        raise UserError(f"{data.root} has no split: use --split all, or add a split.csv.")
    chosen = data.indices("validation" if used == "validation" else "train")
    if not len(chosen):
        raise UserError(f"{data.root} has no pictures in its {used} split: use --split all.")
    return used, chosen


def predict_files(
    model: Path,
    pictures: list[Path],
    threads: int | None = None,
    spec_file: Path | None = None,
    top: int = 5,
) -> Iterator[list[tuple[str, float]] | UserError]:
    """For each picture the `top` most probable class names with softmax probabilities.

    A picture that cannot be read gives its error, and the next one follows.
    """
    spec = spec_of(model, spec_file)
    session = open_session(model, runtime_for(model), threads or usable_threads())
    for picture in pictures:
        try:
            prepared = preprocess([picture], spec)
        except UserError as error:
            yield error
            continue
        logits = infer(session, prepared, spec)[0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        best = np.argsort(-p, kind="stable")[:top]
        yield [(spec.classes[i], float(p[i])) for i in best.tolist()]
