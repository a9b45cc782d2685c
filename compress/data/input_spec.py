"""What a model expects of an image, and the one function that makes it so.

Training, evaluation, export and `predict` all go through `load_image`, so that what is measured
is what is deployed. The spec travels in the metadata of every exported file.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from compress.data.deep_images import full_range
from compress.utils.errors import UserError
from compress.utils.settings import LEAST_STD, sides

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

METADATA_KEY = "compress.input"
BOX = ("top_left", "bottom_right")  # the two points that are a box


Fit = Literal["crop", "stretch", "letterbox"]
Channels = Literal["rgb", "bgr", "grey"]  # bgr: blue first, as OpenCV reads
Layout = Literal["nchw", "nhwc"]  # of a file's input: channels before height and width, or last
Dtype = Literal["float32", "uint8"]  # float32 stands for other floats, too
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BYTE_STD = 1 / 255  # with a mean of 0: pixels stay the bytes that they are
GREY = (114, 114, 114)  # what a letterbox fills up with
Shape = tuple[int, ...]


class Predicted(BaseModel):
    """What a network answers whose task is neither classification nor keypoints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str  # by its name, see compress/tasks
    settings: dict[str, Any] = {}  # what the recipe says of the task
    outputs: dict[str, Shape]  # by name, the shape for one image
    facts: dict[str, Any] = {}  # what the task knows from the data: names, say
    fitted: Any = None  # what it fitted to this very file on training images, as JSON


class InputSpec(BaseModel):
    """Preprocessing: fitted to height x width pixels, /255, minus mean, over std.

    `channels` are red, green and blue, or blue first, or one of grey. `mean` and `std` are in units
    of [0, 1] pixels, one number a channel, in the channels' order. `fit` says how another aspect
    ratio is brought to the input: "crop" scales the shorter side and cuts the centre, "stretch"
    scales both sides, "letterbox" scales the longer side and fills up with grey. Scaling is
    Pillow's antialiased bilinear.

    `dtype` and `layout` are those of the file's input. Images are prepared in float32 and NCHW
    whatever they are: what loads the file brings them to it. A file that takes bytes (uint8)
    normalises them itself, and its mean is 0 and its std 1/255: both may be left out.

    A network predicts classes, or points, or what another task asks for. Where the first two points
    are named as in BOX, they are a box.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"
    channels: Channels = "rgb"
    dtype: Dtype = "float32"
    layout: Layout = "nchw"
    classes: tuple[str, ...] = ()  # of a classifier, whose output is logits
    points: tuple[str, ...] = ()  # of a network whose output is x, y of each, as `place` says
    predicted: Predicted | None = None

    @model_validator(mode="before")
    @classmethod
    def _bytes_as_they_are(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("dtype") != "uint8":
            return given
        count = 1 if given.get("channels") == "grey" else 3
        return {"mean": (0.0,) * count, "std": (BYTE_STD,) * count} | given

    @model_validator(mode="after")
    def _a_number_for_each_channel(self) -> Self:
        count = self.shape[0]
        if len(self.mean) != count or len(self.std) != count:
            raise ValueError(
                f"channels {self.channels} need {count} number{'s' * (count > 1)} in mean and in "
                f"std, not {len(self.mean)} and {len(self.std)}"
            )
        possible = all(LEAST_STD <= x < math.inf for x in self.std)
        if not (possible and all(map(math.isfinite, self.mean))):
            raise ValueError(f"mean {self.mean} and std {self.std}: give numbers, and std above 0")
        if self.dtype == "uint8" and not self.keeps_bytes:
            raise ValueError("bytes (uint8) are normalised inside the file: leave out mean and std")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keep what is written for classes and points, and of RGB, as it always was."""
        usual = {"predicted": None, "channels": "rgb", "dtype": "float32", "layout": "nchw"}
        given: dict[str, Any] = dump(self)
        return {k: v for k, v in given.items() if k not in usual or v != usual[k]}

    @property
    def keeps_bytes(self) -> bool:
        """Whether pixels are prepared as the bytes that they are."""
        return not any(self.mean) and all(abs(255 * x - 1) < 1e-3 for x in self.std)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        return self.height, self.width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return 1 if self.channels == "grey" else 3, self.height, self.width

    @property
    def outputs(self) -> dict[str, Shape]:
        """The network's outputs by name, with the shape for one image."""
        if self.predicted is not None:
            return self.predicted.outputs
        if self.points:
            return {"coordinates": (2 * len(self.points),)}
        return {"logits": (len(self.classes),)}

    @property
    def num_outputs(self) -> int:
        """Numbers in the first output for one image: what a builder is told as num_classes."""
        return math.prod(next(iter(self.outputs.values())))

    @property
    def has_box(self) -> bool:
        """Whether the first two points are a box."""
        return self.points[:2] == BOX

    @property
    def without_box(self) -> tuple[str, ...]:
        """The points that are not corners of a box."""
        return self.points[2:] if self.has_box else self.points

    @property
    def named(self) -> str:
        """What it names, in words: "3 classes", "2 points"."""
        if self.predicted is not None:
            return f"{self.predicted.task} ({', '.join(self.outputs)})"
        return f"{len(self.points)} points" if self.points else f"{len(self.classes)} classes"

    def at(self, size: int | Sequence[int]) -> "InputSpec":
        """The same spec for inputs of another size: the side of a square, or height and width."""
        height, width = sides(size)
        return self.model_copy(update={"height": height, "width": width})

    def fed_as(self, dtype: Dtype, layout: Layout) -> "InputSpec":
        """The same spec of a file with such an input; bytes are not normalised."""
        update: dict[str, Any] = {"dtype": dtype, "layout": layout}
        if dtype == "uint8":
            update |= {"mean": (0.0,) * self.shape[0], "std": (BYTE_STD,) * self.shape[0]}
        return self.model_copy(update=update)

    @property
    def of_network(self) -> "InputSpec":
        """The same spec for a new network: what a file does to bytes itself is done to its images.

        That is ImageNet's mean and std then: nobody knows what the file's own are.
        """
        spec = self.fed_as("float32", "nchw")
        if self.dtype != "uint8":
            return spec

        def of_channels(values: tuple[float, ...]) -> tuple[float, ...]:
            if self.channels == "grey":
                return (sum(values) / 3,)
            return values[::-1] if self.channels == "bgr" else values

        mean, std = of_channels(IMAGENET_MEAN), of_channels(IMAGENET_STD)
        return spec.model_copy(update={"mean": mean, "std": std})


def load_image(path: Path, spec: InputSpec) -> "np.ndarray":
    """An image file fitted to the input, its EXIF orientation applied.

    Returns:
        uint8 (height, width, 3), RGB also where the network takes blue first; of grey
        (height, width, 1).

    Raises:
        OSError: not an image, truncated, or empty.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if path.is_file() and path.stat().st_size == 0:
        raise OSError("the file is empty")
    try:
        with Image.open(path) as file:
            # JPEG can be decoded at 1/2, 1/4, 1/8 of its size: 20-megapixel photographs in no time.
            file.draft("RGB", (2 * spec.width, 2 * spec.height))
            image = upright_grey(file) if spec.channels == "grey" else upright_rgb(file)
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error
    size = (spec.width, spec.height)
    if image.size != size:
        if spec.fit == "crop":
            image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        elif spec.fit == "letterbox":
            image = letterboxed(image, size)
        else:
            image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(*spec.size, -1)


def letterboxed(image: "Image", size: tuple[int, int]) -> "Image":
    """An image scaled into the middle of `size` (width, height), with GREY beside it."""
    from PIL import Image, ImageOps

    border = GREY[0] if image.mode == "L" else GREY
    return ImageOps.pad(image, size, Image.Resampling.BILINEAR, border)


def read_image(path: Path, spec: InputSpec) -> "np.ndarray":
    """The same, where a file that is no image ends the command.

    Raises:
        UserError: a file that cannot be read as an image.
    """
    try:
        return load_image(path, spec)
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def upright_rgb(file: "Image") -> "Image":
    """An opened image of any mode as RGB, 8 bits a channel, its EXIF orientation applied.

    One of deeper integers or of floats is scaled by its range, as `eight_bits` says.

    Raises:
        ValueError: numbers that have no range of their own.
    """
    # Copies of a photograph take longer than its decoding: most are upright RGB, and stay as read.
    turn_upright(file)
    if file.mode == "RGB":
        return file
    if file.mode[0] not in "IF":
        return file.convert("RGB")
    return eight_bits(file).convert("RGB")


def upright_grey(file: "Image") -> "Image":
    """The same in grey: mode L, colours by their luminance (ITU-R 601), as Pillow weighs them.

    Raises:
        ValueError: numbers that have no range of their own.
    """
    turn_upright(file)
    return (eight_bits(file) if file.mode[0] in "IF" else file).convert("L")


def turn_upright(file: "Image") -> None:
    """Decode an opened image, and apply its EXIF orientation, in place.

    EXIF that no camera should have written leaves the image as it is stored, or turned, where only
    what else it says cannot be written anew.

    Raises:
        ValueError: colours of 16 bits that use the lower ones alone: Pillow reads the upper eight.
    """
    from PIL import ImageOps

    # Each part of a file that is not decoded yet says how its numbers are packed.
    deep = any(";16" in str(part[3]) for part in getattr(file, "tile", []))
    file.load()
    if deep and file.mode in {"LA", "RGB", "RGBA"} and 0 < _brightest(file) < 16:
        raise ValueError(
            "its colours have 16 bits, of which it uses the lower 12 at most, and would be read as "
            "black: save it with 8 bits a channel"
        )
    with suppress(Exception):  # of many kinds: what readers of EXIF did not expect
        ImageOps.exif_transpose(file, in_place=True)


def _brightest(image: "Image") -> int:
    """Return the largest number of a decoded image's colours, 0 to 255."""
    import numpy as np

    return int(np.asarray(image)[..., : 1 if image.mode == "LA" else 3].max())


def is_sideways(file: "Image") -> bool:
    """Return whether EXIF swaps width and height of an opened image, not decoded for that."""
    with suppress(Exception):  # as `turn_upright`
        return file.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # turned by 90°
    return False


def eight_bits(image: "Image") -> "Image":
    """A grey image of 16 or 32 bits as one of 8 bits, scaled by the range of its numbers.

    The range is that of `full_range`, and one for all images of a dataset (`drop_unreadable`).
    Integers lose their lowest bits, floats are rounded.

    Raises:
        ValueError: values that are negative, or not finite.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    high = float(values.max())
    if not (np.isfinite(values).all() and values.min() >= -0.1 * min(high, 1)):
        raise ValueError(
            f"its pixels are numbers from {values.min():g} to {high:g}: scale them to 0 to 1, or "
            "to integers from 0"
        )
    full = full_range(values)
    if image.mode[0] == "I":
        lost_bits = full.bit_length() - 8
        return Image.fromarray((values.astype(np.int64) >> lost_bits).astype(np.uint8))
    scaled = 255 * (values / np.float32(full)).clip(0, 1)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def normalise(images: "np.ndarray", spec: InputSpec) -> "np.ndarray":
    """uint8 (n, height, width, channels), RGB or grey, prepared for the network.

    Returns:
        float32 (n, channels, height, width), in the spec's order of channels.
    """
    import numpy as np

    if spec.channels == "bgr":
        images = images[..., ::-1]
    # By planes: NumPy takes four times as long to repeat three numbers along the last axis.
    scaled = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
    scaled /= 255
    scaled -= np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    scaled /= np.asarray(spec.std, dtype=np.float32)[:, None, None]
    return scaled


def preprocess(paths: list[Path], spec: InputSpec) -> "np.ndarray":
    """Image files to one float32 (n, channels, height, width) array, as deployed.

    Raises:
        UserError: a file that cannot be read as an image.
    """
    import numpy as np

    return normalise(np.stack([read_image(path, spec) for path in paths]), spec)
