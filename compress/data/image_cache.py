"""Decodes every picture once: uint8 arrays on disk, memory-mapped, one per input size."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from compress.data.dataset import DataSet
from compress.data.input_spec import load_picture
from compress.utils.errors import UserError
from compress.utils.files import atomic

MAX_UNREADABLE = 0.01  # fraction of a data set that may be skipped
VERSION = 1
CHUNK = 256  # pictures that may wait in memory to be written


def drop_unreadable(data: DataSet, progress: Callable[[int, int], None]) -> DataSet:
    """Decodes everything once and leaves out what cannot be read, with a list.

    Raises:
        UserError: more than 1 % cannot be read.
    """

    def fault(path: Path) -> str | None:
        try:
            load_picture(path, 32, 32, "stretch")
        except OSError as error:
            return str(error) or type(error).__name__
        return None

    paths = [data.root / p.path for p in data.pictures]
    faults: list[str | None] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(fault, paths):
            faults.append(result)
            progress(len(faults), len(paths))
    skipped = [f"{p.path}: {f}" for p, f in zip(data.pictures, faults, strict=True) if f]
    if len(skipped) > MAX_UNREADABLE * len(paths):
        shown = "\n  ".join(skipped[:10])
        raise UserError(
            f"{len(skipped)} of {len(paths)} pictures in {data.root} cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}:\n  {shown}\nRepair or remove them."
        )
    kept = tuple(p for p, f in zip(data.pictures, faults, strict=True) if not f)
    return replace(data, pictures=kept, skipped=tuple(skipped))


def pixels(data: DataSet, size: int, fit: str, cache: Path) -> np.ndarray:
    """All pictures as uint8 (n, size, size, 3), memory-mapped from `cache`, decoded if need be.

    A picture is brought to the size exactly as in deployment (`load_picture`), so that a view
    without augmentation is what the deployed model will see.
    """
    file = cache / f"pixels-v{VERSION}-{size}-{fit}.npy"
    if not file.is_file():
        shape = (len(data.pictures), size, size, 3)
        paths = [data.root / p.path for p in data.pictures]
        # Plain writes: on a full disk a memory map would end the process without a word.
        with (
            atomic(file) as temporary,
            temporary.open("wb") as out,
            ThreadPoolExecutor(os.cpu_count()) as pool,
        ):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for start in range(0, len(paths), CHUNK):
                chunk = paths[start : start + CHUNK]
                for picture in pool.map(lambda p: load_picture(p, size, size, fit), chunk):
                    out.write(picture.tobytes())
    return np.asanyarray(np.load(file, mmap_mode="r"))
