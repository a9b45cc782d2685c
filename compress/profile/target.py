"""What `compress profile` was given: a file that a runtime loads, a builder's name, photographs."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.cascade.answer import decode
from compress.models.builders import resolve, split_name
from compress.runtimes.base import Size
from compress.utils.errors import UserError
from compress.utils.files import local
from compress.utils.seeding import torch_seed
from compress.utils.settings import sides

if TYPE_CHECKING:
    from torch import nn

    from compress.data.input_spec import InputSpec

SIZE, DETECTOR_SIZE = 224, 800  # pixels, where nobody says
CLASSES, DETECTOR_CLASSES = 1000, 91  # ImageNet's and COCO's
FILES = (".onnx", ".xml")


def is_file(model: str) -> bool:
    """Return whether MODEL names a file rather than a builder.

    Raises:
        UserError: neither, or a file of a kind that cannot be profiled.
    """
    path = local(model)
    if path.suffix in FILES:
        return True
    if path.exists() or "/" in model or path.suffix in (".pt", ".pth", ".safetensors", ".tflite"):
        raise UserError(
            f"{model} is neither an ONNX file (.onnx) nor an OpenVINO model (.xml), and no folder "
            "of a pipeline. Export it to one of the files, or name a builder such as "
            "torchvision.models:resnet50."
        )
    if ":" not in model and "." not in model:
        raise UserError(
            f"{model!r} is neither a file nor a builder: give an ONNX file, an OpenVINO .xml, or "
            f"a builder such as torchvision.models:{model}."
        )
    return False


def read_photographs(pipeline: Path, files: Sequence[Path]) -> tuple[list[bytes], tuple[int, int]]:
    """Read image files; return their contents, and width and height of the largest, upright.

    Raises:
        UserError: none, or one that is missing or no image.
    """
    if not files:
        raise UserError(
            f"{pipeline} is a pipeline, which is timed from an image file to the answer: give "
            f"photographs, compress profile {pipeline} IMAGE…"
        )
    contents, sizes = [], []
    for file in files:
        try:
            contents.append(file.read_bytes())
            sizes.append(decode(contents[-1]).size)
        except (OSError, UserError) as error:
            raise UserError(f"{file} cannot be timed on: {error}") from error
    return contents, max(sizes, key=math.prod)


@dataclass(frozen=True)
class Built:
    """A network of a builder, with random weights."""

    model: "nn.Module"
    builder: str
    settings: dict[str, Any]
    spec: "InputSpec"
    detector: bool


def built(name: str, size: int | Size | None, allowed: Sequence[str]) -> Built:
    """Build a network; never with weights, which might be downloaded.

    A detector is told to bring its images to `size`, where it can be told.

    Raises:
        UserError: no such builder, or one that does not build a network with these settings.
    """
    split_name(name, allowed)
    from compress.data.input_spec import InputSpec
    from compress.models.builders import build
    from compress.models.torch_session import is_detector

    builder = resolve(name, allowed)
    takes = inspect.signature(builder).parameters
    settings: dict[str, Any] = {k: None for k in ("weights", "weights_backbone") if k in takes}
    detector = ".detection" in name.partition(":")[0]
    height, width = sides(size or (DETECTOR_SIZE if detector else SIZE))
    if detector and size is not None:
        if height != width:
            raise UserError(
                f"{name} is a detector, which is timed on squares: give --size one number."
            )
        settings |= {"min_size": height, "max_size": max(height, 1333)}
    classes = DETECTOR_CLASSES if detector else CLASSES
    with torch_seed(0, "weights"):
        model = build(name, settings, classes, allowed, (3, height, width)).eval()
    spec = InputSpec(
        height=height,
        width=width,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        classes=tuple(map(str, range(classes))),
    )
    return Built(model, name, settings, spec, is_detector(model))
