"""Writes so that a kill or a full disk never leaves half a file; names what lies in a folder."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.utils.errors import StorageFailed, UserError

OWN = ".compress"  # lies in folders that the tool writes
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it is synced and renamed onto `path`.

    Raises:
        StorageFailed: the disk is full; what stood at `path` before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with telling_full_disk(path):
            yield temporary
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def telling_full_disk(path: Path) -> Iterator[None]:
    """Tells a disk that is full while `path` is written as what it is.

    Raises:
        StorageFailed: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if out_of_space(error):
            free = shutil.disk_usage(path.parent).free / 1e6
            raise StorageFailed(
                f"The disk is full: {path} could not be written ({free:.0f} MB free). Free some "
                "space, or choose another folder with --out, and run the same command again: "
                "it goes on where it stopped."
            ) from error
        raise


def out_of_space(error: BaseException) -> bool:
    """Whether the error, or what caused it, says that nothing more can be written.

    Libraries written in Rust or C++ (safetensors, torch) wrap the system's error in their own and
    keep only its text.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NO_SPACE:
            return True
        text = str(seen)
        if any(os.strerror(code) in text for code in _NO_SPACE):
            return True
        seen = seen.__cause__
    return False


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically; names of files that are no text keep their bytes."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def local(path: str | Path) -> Path:
    """A path as somebody wrote it, `~` and environment variables ($NAME) in it replaced.

    Raises:
        UserError: it is an address (https://…, s3://…).
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):  # Path makes one slash of two
        raise UserError(f"{path} is an address: download what is there first, and give its path.")
    return Path(os.path.expanduser(os.path.expandvars(path)))


def inside(folder: Path, name: str) -> Path | None:
    """`folder / name` without `..`, or None when the name leads out (`../../etc/passwd`).

    Links that the user made are followed: big datasets often lie on another disk.
    """
    path = Path(os.path.normpath(folder / name))
    return path if path.is_relative_to(os.path.normpath(folder)) else None


def mark_own(folder: Path) -> None:
    """Make a folder that the tool writes, and say so in it: what lies there is nobody's data.

    People have their images where they work, and runs and reports are written there, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / OWN).is_file():
        write_text(folder / OWN, "compress wrote this folder: it never reads it as images.\n")


def is_own(folder: Path) -> bool:
    """Whether the tool wrote a folder, or all that is in it."""
    if (folder / OWN).is_file():
        return True
    try:
        within = list(folder.iterdir())
        return bool(within) and all(x.is_dir() and is_own(x) for x in within)
    except OSError:  # may not be read, or leads back to itself
        return False


def below(
    folder: Path, wanted: Callable[[Path], bool], above: frozenset[Path] = frozenset()
) -> Iterator[Path]:
    """Gives what lies below a folder and is no folder, in the order of sorted paths.

    Links to folders are followed; one that leads back to a folder it lies in ends there. Folders
    that the tool wrote are left out.

    Args:
        wanted: says of each path whether it is given, or looked into.
        above: the real folders that `folder` lies in.
    """
    real = folder.resolve()
    if real in above:
        return
    for path in sorted(filter(wanted, folder.iterdir())):
        if path.is_dir() and is_own(path):
            continue
        if path.is_dir():
            yield from below(path, wanted, above | {real})
        else:
            yield path
