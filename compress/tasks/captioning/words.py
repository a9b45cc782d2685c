"""Captions as people write them, as words, and as the numbers of a vocabulary."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from compress.utils.errors import UserError

END, UNKNOWN = 0, 1  # their places in a vocabulary
SPECIAL = ("<end>", "<unknown>")
NOTHING = -1  # behind a sentence's end
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words_of(caption: str) -> list[str]:
    """Return the words, in small letters and without marks: ["3", "o'clock"]."""
    return _WORD.findall(unicodedata.normalize("NFC", caption).lower())


def vocabulary_of(captions: Iterable[str], min_count: int) -> list[str]:
    """Return the words that so many captions have, the commonest first, behind the special ones.

    Raises:
        UserError: there is none.
    """
    counts = Counter(word for caption in captions for word in dict.fromkeys(words_of(caption)))
    known = [word for word, count in counts.items() if count >= min_count]
    if not known:
        raise UserError(
            f"No word stands in {min_count} training captions: lower min_count, or add captions."
        )
    return [*SPECIAL, *sorted(known, key=lambda word: (-counts[word], word))]


def numbers_of(caption: str, places: Mapping[str, int], steps: int) -> np.ndarray:
    """Return the words' places in the vocabulary, int64 (steps,): the end, then NOTHING.

    A caption of more words is cut, and has no end.

    Args:
        places: of the words.
    """
    found = [places.get(word, UNKNOWN) for word in words_of(caption)] + [END]
    row = np.full(steps, NOTHING, np.int64)
    row[: min(len(found), steps)] = found[:steps]
    return row


def sentence_of(numbers: Sequence[int], vocabulary: Sequence[str]) -> list[str]:
    """Return the words before the end."""
    said = list(numbers)
    return [vocabulary[i] for i in (said[: said.index(END)] if END in said else said)]


def too_long(captions: Iterable[str], steps: int) -> int:
    """Return how many captions have more words than a sentence has steps."""
    return sum(len(words_of(caption)) > steps for caption in captions)


def unknown_in(captions: Iterable[str], vocabulary: Iterable[str]) -> tuple[int, int]:
    """Return how many words of captions the vocabulary lacks, and how many there are."""
    known, words = {*vocabulary}, [word for caption in captions for word in words_of(caption)]
    return sum(word not in known for word in words), len(words)
