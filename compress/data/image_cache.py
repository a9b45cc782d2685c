"""Decodes every image once: uint8 arrays on disk, memory-mapped, one for each kind of input."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec, load_image
from compress.utils.errors import UserError
from compress.utils.files import atomic

MAX_UNREADABLE = 0.01  # fraction of a dataset that may be skipped
MAX_PLAIN = 0.1  # fraction of a dataset that may be of one colour each before it is said
VERSION = 2
CHUNK = 256  # images that may wait in memory to be written
GLANCE = InputSpec(height=32, width=32, mean=(0,) * 3, std=(1,) * 3, fit="stretch")


def drop_unreadable(data: Dataset, progress: Callable[[int, int], None]) -> Dataset:
    """Decodes everything once and leaves out what cannot be read, with a list.

    Where many images are of a single colour each, a note says so: they were not meant to be.

    Raises:
        UserError: more than 1 % cannot be read.
    """

    def look(path: Path) -> tuple[str | None, bool]:
        try:
            image = load_image(path, GLANCE)
        except OSError as error:
            return str(error) or type(error).__name__, False
        return None, bool((image == image[0, 0]).all())

    paths = [data.root / p.path for p in data.images]
    faults: list[str | None] = []
    plain: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for image, (fault, is_plain) in zip(data.images, pool.map(look, paths), strict=True):
            faults.append(fault)
            plain += [image.path] if is_plain else []
            progress(len(faults), len(paths))
    skipped = [f"{p.path}: {f}" for p, f in zip(data.images, faults, strict=True) if f]
    if len(skipped) > MAX_UNREADABLE * len(paths):
        shown = "\n  ".join(skipped[:10])
        raise UserError(
            f"{len(skipped)} of {len(paths)} images in {data.root} cannot be read, more than "
            f"{MAX_UNREADABLE:.0%}:\n  {shown}\nRepair or remove them."
        )
    kept = tuple(p for p, f in zip(data.images, faults, strict=True) if not f)
    notes = (*data.notes, *_plain_note(plain, len(paths)))
    return replace(data, images=kept, skipped=tuple(skipped), notes=notes)


def _plain_note(plain: list[str], count: int) -> list[str]:
    if len(plain) <= MAX_PLAIN * count:
        return []
    said = f"{len(plain)} of {count} images are of a single colour each ({plain[0]}, …)"
    return [f"{said}: look at one, and save them with 8 bits a channel"]


def pixels(data: Dataset, spec: InputSpec, cache: Path) -> np.ndarray:
    """All images as `load_image` gives them, memory-mapped from `cache`, decoded if need be.

    An image is brought to the size exactly as in deployment, so that a view without augmentation
    is what the deployed model will see.

    Returns:
        uint8 (n, height, width, channels), RGB or grey.
    """
    channels, height, width = spec.shape
    size = f"{height}" if height == width else f"{height}x{width}"
    grey = "-grey" if channels == 1 else ""
    file = cache / f"pixels-v{VERSION}-{size}-{spec.fit}{grey}.npy"
    if not file.is_file():
        shape = (len(data.images), height, width, channels)
        paths = [data.root / p.path for p in data.images]
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
                for image in pool.map(lambda p: load_image(p, spec), chunk):
                    out.write(image.tobytes())
    return np.asanyarray(np.load(file, mmap_mode="r"))
