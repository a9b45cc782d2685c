"""Vectors of words, learned from a text: words are alike that stand among the same words."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.tasks.embedding.packed import unit
from compress.tasks.embedding.settings import Text
from compress.tasks.embedding.vectors import Found
from compress.utils.errors import UserError

WORD = re.compile(r"[^\W_][\w'-]*")
SEED = 0
EPOCHS = 20  # of skip-gram: texts of one's own are small


def sentences_in(path: Path) -> list[list[str]]:
    """Return the words of each line, in small letters.

    Raises:
        UserError: no such file, no UTF-8, or no words.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a text in UTF-8 ({error}): name one below the folder of the "
            "images, or give its whole path."
        ) from error
    found = [words for line in text.splitlines() if (words := WORD.findall(line.lower()))]
    if not found:
        raise UserError(f"{path} holds no words: give a text with a sentence a line.")
    return found


def learn_vectors(path: Path, settings: Text, dimension: int) -> Found:
    """Return a vector for each word of a text.

    Raises:
        UserError: a text that cannot be read, with fewer words than the vectors have numbers, or
            with none that stand together.
    """
    sentences = sentences_in(path)
    words = list(Counter(word for sentence in sentences for word in sentence))
    if len(words) <= dimension:
        raise UserError(
            f"{path} has {len(words)} different words, too few for vectors of {dimension} numbers: "
            "lower dimension, or give more text."
        )
    if settings.method == "skip_gram":
        return _skip_gram(sentences, settings, dimension)
    counts = co_occurrences(sentences, words, settings.window)
    together = shifted_ppmi(counts, settings.negatives)
    if not together.data.any():
        raise UserError(
            f"{path}: no two words stand together more than {settings.negatives} times as often as "
            "by chance: give more text, a sentence a line, or set negatives: 1."
        )
    vectors = factors(together, dimension)
    return dict(zip(words, vectors.astype(np.float32), strict=True))


def co_occurrences(sentences: Sequence[Sequence[str]], words: Sequence[str], window: int) -> Any:
    """Return how often each word stands at most `window` words from each other, (words, words).

    A scipy sparse array, symmetric, float64.
    """
    from scipy.sparse import coo_array

    at = {word: i for i, word in enumerate(words)}
    pairs = Counter(_pairs([[at[word] for word in sentence] for sentence in sentences], window))
    rows, columns = np.array(list(pairs)).T.reshape(2, -1)
    shape = (len(words), len(words))
    found = coo_array((np.array(list(pairs.values()), float), (rows, columns)), shape=shape)
    return (found + found.T).tocsr()


def _pairs(sentences: Sequence[Sequence[int]], window: int) -> Iterator[tuple[int, int]]:
    for sentence in sentences:
        for i, word in enumerate(sentence):
            for other in sentence[i + 1 : i + 1 + window]:
                yield word, other


def shifted_ppmi(counts: Any, negatives: int) -> Any:
    """Return max(log p(a, b) / (p(a) p(b)) - log negatives, 0) of counts, as sparse as they are.

    Levy & Goldberg 2014: it is what skip-gram with so many negative samples factorizes.
    """
    counts = counts.tocoo()
    total, of_word = counts.sum(), np.asarray(counts.sum(1)).ravel()
    information = np.log(counts.data * total / (of_word[counts.row] * of_word[counts.col]))
    counts.data = np.maximum(information - np.log(negatives), 0)
    return counts.tocsr()


def factors(matrix: Any, dimension: int) -> np.ndarray:
    """Return U sqrt(S) of a sparse matrix's truncated SVD, float64 (rows, dimension).

    Each column's largest number is positive, so that it is the same on every machine.
    """
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(SEED).normal(size=min(matrix.shape))
    left, sizes, _ = svds(matrix, k=dimension, v0=start)
    largest = np.take_along_axis(left, np.abs(left).argmax(0)[None], 0)
    return left * np.sign(largest) * np.sqrt(np.maximum(sizes, 0))


def _skip_gram(sentences: Sequence[list[str]], settings: Text, dimension: int) -> Found:
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise UserError(
            "skip_gram needs gensim: pip install 'compress[embedding]', or choose method: ppmi."
        ) from error
    model = Word2Vec(  # one worker: several learn in another order each time
        sentences,
        vector_size=dimension,
        window=settings.window,
        negative=settings.negatives,
        sg=1,
        min_count=1,
        workers=1,
        seed=SEED,
        epochs=EPOCHS,
    )
    vectors = unit(np.asarray(model.wv.vectors))
    return dict(zip(model.wv.index_to_key, vectors, strict=True))
