"""Decodes every image once: uint8 arrays on disk, memory-mapped, one for each kind of input."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from compress.data.dataset import Dataset
from compress.data.deep_images import WAY_OUT, by_range, range_of, several
from compress.data.input_spec import InputSpec, load_image, read_image
from compress.utils.errors import UserError
from compress.utils.files import telling_full_disk

MAX_UNREADABLE = 0.01  # fraction of a dataset that may be skipped
MAX_PLAIN = 0.1  # fraction of a dataset that may be of one colour each before it is said
VERSION = 2
PIXELS = "pixels-"  # that the names of files of decoded images begin with
CHUNK = 256  # images that may wait in memory to be written
GLANCE = InputSpec(height=32, width=32, mean=(0,) * 3, std=(1,) * 3, fit="stretch")


def drop_unreadable(data: Dataset, progress: Callable[[int, int], None]) -> Dataset:
    """Decodes everything once and leaves out what cannot be read, with a list.

    Where many images are of a single colour each, a note says so: they were not meant to be.
    Another says by what range images of 16 or 32 bits are read.

    Raises:
        UserError: more than 1 % cannot be read, or deep images have several ranges.
    """

    def look(path: Path) -> tuple[str | None, bool, int | None]:
        try:
            image = load_image(path, GLANCE)
        except OSError as error:
            return str(error) or type(error).__name__, False, None
        return None, bool((image == image[0, 0]).all()), range_of(path)

    paths = [data.root / p.path for p in data.images]
    faults: list[str | None] = []
    plain: list[str] = []
    ranges: list[tuple[str, int | None]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked = pool.map(look, paths)
        for image, (fault, is_plain, full) in zip(data.images, looked, strict=True):
            faults.append(fault)
            ranges.append((image.path, full))
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
    deep = by_range(ranges)
    if len(deep) > 1:
        raise UserError(f"{data.root} has {several(deep)}")
    notes = (*data.notes, *_plain_note(plain, len(paths)), *_deep_note(deep))
    return replace(data, images=kept, skipped=tuple(skipped), notes=notes)


def _plain_note(plain: list[str], count: int) -> list[str]:
    if len(plain) <= MAX_PLAIN * count:
        return []
    said = f"{len(plain)} of {count} images are of a single colour each ({plain[0]}, …)"
    return [f"{said}: look at one, and save them with 8 bits a channel"]


def _deep_note(deep: Mapping[int, list[str]]) -> list[str]:
    """What deep images, all of one range, are read as."""
    return [
        f"{len(names)} images of 16 or 32 bits ({names[0]}, …) hold numbers from 0 to {full}, as "
        "their largest values say, and become 8 bits; where the largest of an image that is "
        f"predicted says otherwise, it is read otherwise: {WAY_OUT}, there as here, to be sure"
        for full, names in deep.items()
    ]


class Decoded:
    """A dataset's images as networks take them, each decoded once for every kind of input.

    They lie in a folder, a memory-mapped file for each kind of input, for all stages of a run and
    for the next run. Until all were asked for, it is the file of `_decode`; one process at a time
    writes to it. An image is brought to the size exactly as in deployment, so that a view without
    augmentation is what the deployed model will see, and what is judged is what is deployed.
    """

    def __init__(self, data: Dataset, folder: Path) -> None:
        self.paths = [data.root / image.path for image in data.images]
        self.folder = folder

    def __call__(self, spec: InputSpec) -> np.ndarray:
        """Return all images, memory-mapped: uint8 (n, height, width, channels), RGB or grey.

        Raises:
            UserError: a file that cannot be read as an image, or the disk is full.
        """
        file = self._file(spec)
        if not file.is_file():
            with self._alone():
                if not file.is_file():  # made while this process waited
                    self._make_whole(file, spec)
        return np.asanyarray(np.load(file, mmap_mode="r"))

    def of(self, indices: np.ndarray, spec: InputSpec) -> np.ndarray:
        """Return the images at some places, uint8 (len(indices), …); raises as all of them do."""
        return self._stored(indices, spec)[indices]

    def batches(self, indices: np.ndarray, spec: InputSpec, size: int) -> Iterator[np.ndarray]:
        """Yield the same in batches of at most `size`, in order."""
        stored = self._stored(indices, spec)
        for start in range(0, len(indices), size):
            yield stored[indices[start : start + size]]

    def _file(self, spec: InputSpec) -> Path:
        channels, height, width = spec.shape
        size = f"{height}" if height == width else f"{height}x{width}"
        grey = "-grey" if channels == 1 else ""
        return self.folder / f"{PIXELS}v{VERSION}-{size}-{spec.fit}{grey}.npy"

    def _stored(self, indices: np.ndarray, spec: InputSpec) -> np.ndarray:
        """Return an array like that of all images in which at least those asked for are right."""
        file = self._file(spec)
        if not file.is_file():
            with self._alone():
                if not file.is_file():
                    return np.asanyarray(np.load(self._part(indices, spec), mmap_mode="r"))
        return np.asanyarray(np.load(file, mmap_mode="r"))

    def _alone(self) -> FileLock:
        """Return the lock of this folder, beside it: what lies in it is decoded images."""
        return FileLock(self.folder.with_name(f".{self.folder.name}.lock"))

    def _make_whole(self, file: Path, spec: InputSpec) -> None:
        part = self._part(np.arange(len(self.paths)), spec)
        with part.open("r+b") as out:
            out.truncate(part.stat().st_size - len(self.paths))
            os.fsync(out.fileno())
        os.replace(part, file)

    def _part(self, indices: np.ndarray, spec: InputSpec) -> Path:
        """Return the file of `_decode`, with these images in it."""
        part = self._file(spec).with_suffix(".part")
        with telling_full_disk(part):
            _decode(self.paths, np.unique(indices), spec, part)
        return part


def _decode(paths: Sequence[Path], wanted: np.ndarray, spec: InputSpec, part: Path) -> None:
    """Writes those of the wanted images that a file lacks.

    The file is an array of all images in NumPy's format, and behind it a byte for each that says
    whether it is there. That is written last: what a kill left out is decoded anew. Plain writes:
    on a full disk a memory map would end the process without a word.
    """
    shape = (len(paths), *spec.size, spec.shape[0])
    image_bytes = math.prod(shape[1:])
    with (
        part.open("r+b" if part.is_file() else "w+b") as out,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        first = out.tell()
        end = out.truncate(first + len(paths) * image_bytes + len(paths)) - len(paths)
        out.seek(end)
        there = np.frombuffer(bytearray(out.read()), dtype=bool)
        missing = wanted[~there[wanted]]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            images = pool.map(lambda i: read_image(paths[i], spec), chunk)
            for i, image in zip(chunk.tolist(), images, strict=True):
                out.seek(first + i * image_bytes)
                out.write(image.tobytes())
            out.flush()
            os.fsync(out.fileno())
            there[chunk] = True
            out.seek(end)
            out.write(there.tobytes())
