"""What any runtime does with a file whose only input is images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.runtimes import FLOATS, Entry
from compress.utils.errors import UserError


class TakesImages(ABC):
    """Beside a runtime's class for files of any inputs: feeds it images, gives outputs by name."""

    inputs: tuple[Entry, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return all outputs in order: it is the runtime's own class that does."""

    def take_images(self, path: Path, size: tuple[int, int] | None) -> None:
        """Find out what images the file takes, as `image_entry`."""
        entry, self.image_size = image_entry(path, self.inputs, size)
        self.batch_size, self._dtype = entry.shape[0], entry.dtype
        self.channels = entry.shape[1] or 3  # where they are left free

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, float32 (n, …); the file is fed its own type."""
        outputs = self.call([images.astype(self._dtype, copy=False)])
        found = zip(self.outputs, outputs, strict=True)
        return {name: np.asarray(output, dtype=np.float32) for name, output in found}


def image_entry(
    path: Path, inputs: Sequence[Entry], size: tuple[int, int] | None
) -> tuple[Entry, tuple[int, int]]:
    """Return the only input of a file that takes images, and their height and width.

    Args:
        size: height and width where the file leaves them free.

    Raises:
        UserError: other inputs, or a size that nobody says.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UserError(
            f"{path} takes {', '.join(map(str, inputs)) or 'nothing'}; expected one input (batch, "
            "channels, height, width)."
        )
    (entry,) = inputs
    if entry.dtype not in FLOATS:
        raise UserError(
            f"{path} takes {entry.dtype}; expected float32, images minus mean, over std: export it "
            "with such an input, without what prepares the images."
        )
    height, width = entry.shape[2:]
    if height is not None and width is not None:
        return entry, (height, width)
    if size is None:
        raise UserError(
            f"{path} leaves its input's height and width free: export fixed ones, or give a JSON "
            "file with both to `compress eval` and `predict` (--spec)."
        )
    return entry, (height or size[0], width or size[1])
