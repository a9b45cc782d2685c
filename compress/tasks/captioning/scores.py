"""How good sentences are, and where their words looked; functions of words and arrays."""

from collections.abc import Sequence

import numpy as np

Words = Sequence[str]


def edits(one: Words, other: Words) -> int:
    """Return how many words must be put in, left out or exchanged to make one of the other."""
    row = np.arange(len(other) + 1)
    for i, word in enumerate(one, 1):
        before, row = row, np.empty_like(row)
        row[0] = i
        for j, theirs in enumerate(other, 1):
            row[j] = min(before[j - 1] + (word != theirs), before[j] + 1, row[j - 1] + 1)
    return int(row[-1])


def word_accuracy(said: Words, captions: Sequence[Words]) -> float:
    """Return 1 - edits / words of the longer one, for the nearest caption: 0 to 1."""
    return max(1 - edits(said, x) / max(len(said), len(x), 1) for x in captions)


def bleu_and_cider(
    said: Sequence[Words], captions: Sequence[Sequence[Words]]
) -> tuple[float, float]:
    """Return BLEU-4 (Papineni et al. 2002), 0 to 1, and CIDEr-D (Vedantam et al. 2015), 0 to 10.

    By pycocoevalcap's scorers, whose text is joined by spaces here: no Java, no tokenizer.

    Raises:
        ImportError: pycocoevalcap is missing.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    bleu, cider = BleuScorer(n=4), CiderScorer(n=4, sigma=6.0)
    for answer, references in zip(said, captions, strict=True):
        pair = " ".join(answer), [" ".join(x) for x in references]
        bleu += pair
        cider += pair
    of_orders, _ = bleu.compute_score(option="closest", verbose=0)
    return float(of_orders[3]), float(cider.compute_score()[0])


def shares_of_cells(box: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return what share of each cell of a map lies in a box, float64 (height x width,).

    Args:
        box: left, top, right, bottom, in fractions of the input; what is cut off does not count.
        grid: height and width of the map.
    """

    def along(low: float, high: float, cells: int) -> np.ndarray:
        edges = np.arange(cells + 1)
        low, high = np.clip([low, high], 0, 1) * cells
        return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, 1)

    left, top, right, bottom = box
    return np.outer(along(top, bottom, grid[0]), along(left, right, grid[1])).reshape(-1)
