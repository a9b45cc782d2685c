"""Compression methods: a folder each, which is its registration, or an installed package's own.

`settings.py` in a folder holds what a recipe may say, `step.py` the subclass of `Method`.
"""

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from compress.methods.base import Method

GROUP = "compress.methods"  # of entry points: further methods, each a subclass of Method


@cache
def discover() -> dict[str, Method[Any]]:
    """Return all methods by name."""
    for folder in pkgutil.iter_modules(__path__):
        if folder.ispkg:
            importlib.import_module(f"{__name__}.{folder.name}.step")
    own = [cls for cls in Method.__subclasses__() if cls.__module__.startswith(f"{__name__}.")]
    installed = [entry.load() for entry in entry_points(group=GROUP)]
    return {cls.name: cls() for cls in sorted({*own, *installed}, key=lambda cls: cls.name)}
