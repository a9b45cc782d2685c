"""How `compress profile` was asked to profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.runtimes.base import Size


@dataclass(frozen=True)
class Settings:
    """How a model is profiled."""

    threads: int | None = None  # None: all that may be used
    photographs: Sequence[Path] = ()  # for pipelines
    size: int | Size | None = None  # pixels of a side, or height and width, where they are free
    batch: int = 1
    audit: bool = True
    allowed: Sequence[str] = ()
    runtime: str | None = None  # None: by the file's format
