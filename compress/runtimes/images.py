"""What any runtime does with a file whose only input is images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compress.data.input_spec import Dtype, Layout
from compress.runtimes import FLOATS, Entry
from compress.utils.errors import UserError

BYTES = "uint8"


class ImageInput(NamedTuple):
    """The only input of a file that takes images; None: free."""

    dtype: str
    layout: Layout
    batch: int | None
    channels: int | None
    height: int | None
    width: int | None

    @property
    def kind(self) -> Dtype:
        """Bytes, or floats of any precision."""
        return "uint8" if self.dtype == BYTES else "float32"

    def fed(self, images: np.ndarray) -> np.ndarray:
        """Return prepared images, float32 (n, channels, height, width), as the input takes them."""
        if self.layout == "nhwc":
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        if self.dtype == BYTES:
            images = np.rint(images).clip(0, 255)
        return images.astype(self.dtype, copy=False)


class TakesImages(ABC):
    """Beside a runtime's class for files of any inputs: feeds it images, gives outputs by name."""

    inputs: tuple[Entry, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return all outputs in order: it is the runtime's own class that does."""

    def take_images(self, path: Path, size: tuple[int, int] | None) -> None:
        """Find out what images the file takes, as `image_input` and `size_of`."""
        self.takes = image_input(path, self.inputs)
        self.image_size = size_of(path, self.takes, size)
        self.batch_size, self.channels = self.takes.batch, self.takes.channels

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, float32 (n, …); the file is fed its own type and layout."""
        outputs = self.call([self.takes.fed(images)])
        found = zip(self.outputs, outputs, strict=True)
        return {name: np.asarray(output, dtype=np.float32) for name, output in found}


def layout_of(shape: Sequence[int | None]) -> Layout:
    """Return where a file has the channels: first, unless only its last number can be theirs."""
    return "nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw"


def image_input(path: Path, inputs: Sequence[Entry]) -> ImageInput:
    """Return the only input of a file that takes images.

    Raises:
        UserError: other inputs.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UserError(
            f"{path} takes {', '.join(map(str, inputs)) or 'nothing'}; expected one input (batch, "
            "channels, height, width), or with the channels last."
        )
    (entry,) = inputs
    if entry.dtype not in (*FLOATS, BYTES):
        raise UserError(
            f"{path} takes {entry.dtype}; expected float32, images minus mean, over std, or bytes "
            "(uint8): export it with such an input."
        )
    layout = layout_of(entry.shape)
    if layout == "nhwc":
        batch, height, width, channels = entry.shape
    else:
        batch, channels, height, width = entry.shape
    return ImageInput(entry.dtype, layout, batch, channels, height, width)


def size_of(path: Path, takes: ImageInput, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width of the images that a file takes.

    Args:
        size: both where the file leaves them free.

    Raises:
        UserError: a size that nobody says.
    """
    if takes.height is not None and takes.width is not None:
        return takes.height, takes.width
    if size is None:
        raise UserError(
            f"{path} leaves its input's height and width free: export fixed ones, or give a JSON "
            "file with both to `compress eval` and `predict` (--spec)."
        )
    return takes.height or size[0], takes.width or size[1]
