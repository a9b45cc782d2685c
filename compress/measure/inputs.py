"""What a model is timed on: random numbers of its inputs' types and shapes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.runtimes import FLOATS, Entry
from compress.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

# Besides normal floats. Wider integers are mostly indices, of tables of any length.
RANGES = {"uint8": (0, 255), "int8": (-128, 127)} | dict.fromkeys(
    ("bool", "uint16", "int16", "uint32", "int32", "uint64", "int64"), (0, 1)
)

LEAST_SIDE = 16  # of what is taken for one image, in pixels


def shapes_of(inputs: Sequence[Entry], batch: int) -> list[tuple[int, ...]]:
    """Return the shape of each input; a free first number is the batch, free channels are 3.

    A single input that looks like one image has no batch, and is that image.

    Raises:
        UserError: other numbers that the file leaves free, or another batch than it takes.
    """
    shapes = []
    for entry in inputs:
        shape = list(entry.shape)
        if shape and shape[0] is None:
            shape[0] = batch
        if len(shape) == 4 and shape[1] is None and shape[3] not in (1, 3):
            shape[1] = 3
        fixed = tuple(n for n in shape if n is not None)
        if len(fixed) < len(shape):
            raise UserError(
                f"The input {entry} has free numbers: give --size HEIGHTxWIDTH for those of an "
                "image, or export the model with fixed ones."
            )
        shapes.append(fixed)
    batches = [entry.shape[0] for entry in inputs if entry.shape]
    if len(inputs) == 1 and _is_one_image(inputs[0].shape):
        batches = [1]
    if batches and None not in batches and batch not in batches:
        only = "1 image" if batches[0] == 1 else f"{batches[0]} images"
        raise UserError(f"The model takes {only} a call: give --batch {batches[0]}.")
    return shapes


def _is_one_image(shape: Sequence[int | None]) -> bool:
    """Return whether it looks like an image without a batch: channels are first or last of three.

    A batch of one looks alike.
    """
    match shape:
        case (1 | 3, int(height), int(width)) | (int(height), int(width), 1 | 3):
            return min(height, width) >= LEAST_SIDE
    return False


def random_inputs(
    inputs: Sequence[Entry], batch: int, rng: "np.random.Generator"
) -> "list[np.ndarray]":
    """Return an array for each input: normal floats, integers of the ranges above.

    Raises:
        UserError: as `shapes_of`; a type that holds no numbers or that NumPy lacks.
    """
    import numpy as np

    arrays = []
    for entry, shape in zip(inputs, shapes_of(inputs, batch), strict=True):
        if entry.dtype in FLOATS:
            arrays.append(rng.standard_normal(shape).astype(np.float32).astype(entry.dtype))
        elif entry.dtype in RANGES:
            drawn = rng.integers(*RANGES[entry.dtype], shape, endpoint=True)
            arrays.append(drawn.astype(entry.dtype))
        else:
            raise UserError(
                f"The input {entry} is of type {entry.dtype}, which there are no random numbers "
                "of: export the model with an input of float32."
            )
    return arrays


def described(inputs: Sequence[Entry], batch: int) -> str:
    """Return in words what `random_inputs` gives: "images float32 (1, 3, 224, 224), normal"."""
    said = []
    for entry, shape in zip(inputs, shapes_of(inputs, batch), strict=True):
        low, high = RANGES.get(entry.dtype, (0, 0))
        drawn = f"{low} to {high}" if entry.dtype in RANGES else "normal"
        said.append(f"{entry.name} {entry.dtype} {shape}, {drawn}")
    return "; ".join(said)
