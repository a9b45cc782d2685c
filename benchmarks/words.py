"""What do vectors of words know of a text that they were learned from? PPMI against skip-gram.

    python benchmarks/words.py [--out benchmarks/words.md]

The texts are those of `recipes/shared_space.yaml`: each says of 200 whales what they look like, so
that what a whale's vector should be near is known. For each method and number of negatives:

1. Facts found: of all words for looks, as many are nearest to the whale's vector as it has looks;
   the share of them that are its own, the mean over whales.
2. Alike: Spearman's rank correlation, over all pairs of whales, between the cosine of their vectors
   and the share of looks that both have.

Prints Markdown; `--out FILE` writes it too.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from compress.measure.machine import machine
from compress.tasks.embedding.packed import unit
from compress.tasks.embedding.settings import Text
from compress.tasks.embedding.text import learn_vectors
from teachers.whale_catalogue import sentences, traits

WHALES = 200
DIMENSION = 32
TEXTS = 5
SETTINGS = (("ppmi", 1), ("ppmi", 5), ("skip_gram", 1), ("skip_gram", 5), ("skip_gram", 15))


class Known(NamedTuple):
    """What one method learned of one text."""

    facts_found: float
    alike: float


def known(method: str, negatives: int, seed: int, folder: Path) -> Known:
    """Learn one text's vectors and compare them with what it tells."""
    text = folder / f"{seed}.txt"
    text.write_text("\n".join(sentences(WHALES, seed)) + "\n", encoding="utf-8")
    settings = Text.model_validate({"text": str(text), "method": method, "negatives": negatives})
    vectors = learn_vectors(text, settings, DIMENSION)
    told = [traits(whale, seed) for whale in range(WHALES)]
    looks = sorted({look for each in told for look in each})
    has = np.array([[look in each for look in looks] for each in told])
    ours = unit(np.array([vectors[f"whale_{whale:05d}"] for whale in range(WHALES)]))
    near = ours @ unit(np.array([vectors[look] for look in looks])).T
    found = [
        row[np.argsort(-cosines)[: row.sum()]].mean()
        for row, cosines in zip(has, near, strict=True)
    ]
    pairs = np.triu_indices(WHALES, 1)
    both = (has.astype(float) @ has.T)[pairs]
    alike = spearmanr((ours @ ours.T)[pairs], both).statistic
    return Known(float(np.mean(found)), float(alike))


def table() -> list[str]:
    """Return a row for each method and number of negatives: means over texts, their ends."""
    lines = ["| method | negatives | facts found % | alike |", "| --- | --: | --: | --: |"]
    with tempfile.TemporaryDirectory() as folder:
        for method, negatives in SETTINGS:
            learned = [known(method, negatives, seed, Path(folder)) for seed in range(TEXTS)]
            facts, alike = (np.array(x) for x in zip(*learned, strict=True))
            lines.append(
                f"| {method} | {negatives} | {_ends(100 * facts, 1)} | {_ends(alike, 2)} |"
            )
    return lines


def _ends(values: np.ndarray, digits: int) -> str:
    mean, low, high = (f"{x:.{digits}f}" for x in (values.mean(), values.min(), values.max()))
    return f"{mean} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    versions = machine().versions
    lines = [
        "# Vectors of words, learned from a text",
        "",
        f"`benchmarks/words.py`: {TEXTS} texts about {WHALES} whales each, vectors of {DIMENSION} "
        f"numbers; numpy {versions['numpy']}. Means over the texts, the lowest and the highest.",
        "",
        "Facts found: of the words for looks that are nearest to a whale's vector, as many as it "
        "has, the share that the text says of it. Alike: Spearman's correlation between the cosine "
        "of two whales and the share of looks that both have.",
        "",
        *table(),
    ]
    print("\n".join(lines))
    if out:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
