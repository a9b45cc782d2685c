"""Paths on the command line, as recipes have them: an address is told to be downloaded first."""

from pathlib import Path
from typing import TypeVar

from compress.utils.files import local

Given = TypeVar("Given", Path, list[Path], str)


def on_disk(given: Given | None) -> Given | None:
    """Return paths with `~` and environment variables replaced; a name only looked at.

    Raises:
        UserError: an address (https://…).
    """
    if isinstance(given, list):
        return [local(path) for path in given]
    if isinstance(given, str):
        local(given)
        return given
    return None if given is None else local(given)
