"""Vectors of words, read from files as word2vec and GloVe write them."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from compress.utils.errors import UserError

Found = dict[str, np.ndarray]  # by word, float32 (dimension,)
LONGEST = 2000  # bytes of a word


def read_vectors(path: Path, wanted: Callable[[str], bool]) -> Found:
    """Return the vectors of the wanted words that the file has.

    Args:
        path: word2vec's text (a line with the numbers of words and of dimensions first) or binary
            format, or GloVe's (no such line).

    Raises:
        UserError: no such file, none of these formats, or vectors of two lengths.
    """
    if not path.is_file():
        raise UserError(
            f"There is no file of word vectors at {path}: name one below the folder of the images, "
            "or give its whole path."
        )
    with path.open("rb") as file:
        first = file.readline()
        header = first.split()
        counted = len(header) == 2 and all(x.isdigit() for x in header)
        if not counted:
            file.seek(0)
            return _of_lines(path, file, wanted, None)
        size = int(header[1])
        begun = file.tell()
        if _is_text(file, size):
            file.seek(begun)
            return _of_lines(path, file, wanted, size)
        file.seek(begun)
        return _of_bytes(path, file, wanted, int(header[0]), size)


def _is_text(file: BinaryIO, size: int) -> bool:
    """Return whether what follows is a line of a word and as many numbers as are announced."""
    parts = file.readline().split()
    try:
        return len([float(x) for x in parts[-size:]]) > 0
    except ValueError:
        return False


def _of_lines(path: Path, file: BinaryIO, wanted: Callable[[str], bool], size: int | None) -> Found:
    """Read a word and its numbers from each line; a word may hold spaces, as some of GloVe's do."""
    found: Found = {}
    for number, line in enumerate(file, 1 if size is None else 2):
        parts = line.rstrip().split(b" ")
        if parts == [b""]:
            continue
        if size is None:
            size = len(parts) - 1
        try:
            values = np.array(parts[-size:], dtype=np.float32)
        except ValueError:
            values = np.empty(0, np.float32)
        spaced = len(parts) > size + 1 and not _is_number(parts[-size - 1])
        if not size or len(values) != size or not (len(parts) == size + 1 or spaced):
            raise UserError(
                f"{path}:{number}: expected a word and {size} numbers, and there are "
                f"{len(parts) - 1}: all vectors of a file have one length. "
                "Is it word2vec's or GloVe's format, and whole?"
            )
        word = b" ".join(parts[:-size]).decode("utf-8", "replace")
        if wanted(word):
            found[word] = values
    return found


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _of_bytes(
    path: Path, file: BinaryIO, wanted: Callable[[str], bool], count: int, size: int
) -> Found:
    """Read a word, a space and float32 numbers, as often as the first line says."""
    found: Found = {}
    for number in range(count):
        word = _word(file)
        raw = file.read(4 * size)
        if word is None or len(raw) < 4 * size:
            raise UserError(
                f"{path} ends within vector {number + 1} of {count}: it is cut short, or no "
                "word2vec file. Get it anew."
            )
        if wanted(word):
            found[word] = np.frombuffer(raw, "<f4").copy()
    return found


def _word(file: BinaryIO) -> str | None:
    """Return what stands before the next space; None where none comes."""
    held = bytearray()
    for byte in islice(iter(lambda: file.read(1), b""), LONGEST):
        if byte == b" ":
            return held.decode("utf-8", "replace").lstrip("\n")
        held += byte
    return None


def spellings(label: str) -> Iterator[str]:
    """Yield what a label may be called in a file: as it is, with underscores, in small letters."""
    yield from dict.fromkeys(
        spelt for x in (label, label.replace(" ", "_")) for spelt in (x, x.lower())
    )
