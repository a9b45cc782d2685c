"""Refuses to judge a cascade on photographs that its stages were trained on."""

import hashlib
from pathlib import Path

from compress.data.dataset import Dataset
from compress.utils.errors import UserError


def refuse_seen(judged: Dataset, stage: str, trained: Dataset) -> None:
    """Refuse a cascade's data of whose validation images a stage's recipe trains on some.

    What a builder made of photographs, crops for one, is not known for theirs.

    Args:
        trained: the data of the stage's recipe.

    Raises:
        UserError: says how many.
    """
    if seen := _seen(judged, trained):
        raise UserError(
            f"stages.{stage}: its recipe trains on {len(seen)} of the "
            f"{len(judged.indices('validation'))} images that the cascade is judged on "
            f"({seen[0]} for one), as their splits differ: put a split.csv (Image,split) beside "
            "the images, which all recipes keep to."
        )


def _seen(judged: Dataset, trained: Dataset) -> list[str]:
    """Return which of one's validation images are among those that the other trains on."""
    own = [judged.images[i].path for i in judged.indices("validation")]
    theirs = [trained.images[i].path for i in trained.indices("train", "tune")]
    if judged.root.resolve() == trained.root.resolve():
        known = set(theirs)
        return [path for path in own if path in known]
    sizes = {(trained.root / path).stat().st_size for path in theirs}
    alike = [path for path in own if (judged.root / path).stat().st_size in sizes]
    sizes = {(judged.root / path).stat().st_size for path in alike}
    files = (trained.root / path for path in theirs)
    hashes = {_hash(file) for file in files if file.stat().st_size in sizes}
    return [path for path in alike if _hash(judged.root / path) in hashes]


def _hash(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
