"""Which files of a folder are images, and which of them a table means by a name."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from compress.utils.files import below, inside

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
KINDS_SHOWN = 5
LEFT_BEHIND = {"@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}


def is_data(path: Path) -> bool:
    """Not what notebooks, editors, archivers and file servers leave behind."""
    name = path.name
    return not name.startswith((".", "__MACOSX")) and name.lower() not in LEFT_BEHIND


def is_image(path: Path) -> bool:
    """Whether its suffix is one of those that are read."""
    return path.suffix.lower() in SUFFIXES


def written(path: str) -> str:
    """A path as JSON may hold it: names of files need not be text."""
    return path.encode("utf-8", "backslashreplace").decode()


def files_below(folder: Path, root: Path) -> Iterator[Path]:
    """Gives a folder's files; `data.fingerprint` sees through the same links."""
    above = frozenset(p.resolve() for p in folder.parents if p.is_relative_to(root))
    return below(folder, is_data, above)


def images_below(folder: Path, root: Path) -> Iterator[Path]:
    """Gives a folder's images."""
    return filter(is_image, files_below(folder, root))


def kinds(files: Iterable[Path]) -> str:
    """How many files of which suffixes: `12 .heic, 3 .gif`."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in files)
    shown = [f"{count} {kind}" for kind, count in counts.most_common(KINDS_SHOWN)]
    return ", ".join(shown) + (", …" if len(counts) > KINDS_SHOWN else "")


class ImageFiles:
    """The images of a root, found by the names that a table has for them.

    A name is a path relative to one of the folders, or to the root. Where there is no such file,
    it may be written with backslashes, without its suffix, in other capitals, or its accents as
    characters of their own (macOS writes file names so).
    """

    def __init__(self, root: Path, folders: Sequence[Path]) -> None:
        self.root = root
        self.folders = folders
        self._normal_root = os.path.normpath(root)
        self._found: dict[str, tuple[str | None, str]] = {}

    def find(self, name: str) -> tuple[str | None, str]:
        """The image's path relative to the root; None where there is none, and why."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> tuple[str | None, str]:
        spellings = [name, name.replace("\\", "/")] if "\\" in name else [name]
        tried = [
            folder.relative_to(self.root) / spelling
            for folder in (*self.folders, self.root)
            for spelling in spellings
        ]
        places = [place for path in tried if (place := inside(self.root, str(path))) is not None]
        if not places:
            return None, f"lies outside {self.root}, which is refused"
        for place in places:
            if os.path.isfile(place):
                return self._relative(place), ""
        alike = {path for place in places for path in self._alike(self._relative(place))}
        if len(alike) > 1:
            return None, f"may be any of {', '.join(sorted(alike))}: write the whole name"
        if alike:
            return alike.pop(), ""
        looked_in = dict.fromkeys([*self.folders, self.root] if self.folders else [self.root])
        return None, f"does not exist in {' or '.join(map(str, looked_in))}"

    def _alike(self, relative: str) -> set[str]:
        return self._by_spelling.get(_spelling(relative), set())

    @cached_property
    def _by_spelling(self) -> dict[str, set[str]]:
        """All images below the root by their paths with and without suffix."""
        known: dict[str, set[str]] = {}
        for path in images_below(self.root, self.root):
            relative = self._relative(path)
            for text in (relative, relative[: -len(path.suffix)]):
                known.setdefault(_spelling(text), set()).add(relative)
        return known

    def _relative(self, path: Path) -> str:
        return Path(os.path.normpath(path)).relative_to(self._normal_root).as_posix()


def _spelling(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
