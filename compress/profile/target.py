"""What `compress profile` was given: a file that a runtime loads, a builder's name, photographs."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from compress.builders import resolve, split_name
from compress.errors import UserError
from compress.pipeline.cascade import decode
from compress.seeding import torch_seed

if TYPE_CHECKING:
    from torch import nn

    from compress.input_spec import InputSpec

SIZE, DETECTOR_SIZE = 224, 800  # pixels, where nobody says
CLASSES, DETECTOR_CLASSES = 1000, 91  # ImageNet's and COCO's
FILES = (".onnx", ".xml")


def is_file(model: str) -> bool:
    """Whether MODEL names a file rather than a builder.

    Raises:
        UserError: neither, or a file of a kind that cannot be profiled.
    """
    path = Path(model)
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


def as_deployed(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    """The file itself; a copy in `folder` where it leaves open what a profile needs to know.

    Raises:
        UserError: missing, damaged, of another size or batch than asked, no picture model.
    """
    if not path.is_file():
        raise UserError(f"No model at {path}.")
    return (_ir if path.suffix == ".xml" else _onnx)(path, size, batch, folder)


def _onnx(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    try:
        proto = onnx.load(path)
    except Exception as error:  # the parser's and the loader's exceptions share no base class
        raise UserError(f"{path} is no ONNX file, or is cut short: {error}.") from error
    weights = {tensor.name for tensor in proto.graph.initializer}
    entries = [entry for entry in proto.graph.input if entry.name not in weights]
    dims = entries[0].type.tensor_type.shape.dim if entries else []
    if len(entries) != 1 or len(dims) != 4:
        names = ", ".join(entry.name for entry in entries) or "nothing"
        raise UserError(
            f"{path} takes {names}; expected one input (batch, channels, height, width)."
        )
    known = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    height, width = _checked(path, known, size, batch)
    changed = known[2:] != [height, width]
    if changed:
        dims[2].dim_value, dims[3].dim_value = height, width
        del proto.graph.value_info[:]
    nodes = [node.name for node in proto.graph.node]
    if len(set(nodes)) < len(nodes) or "" in nodes:
        changed = True  # the runtime's profile knows kernels by name
        for number, node in enumerate(proto.graph.node):
            node.name = f"{node.op_type}_{number}"
    if not changed:
        return path
    copy = folder / path.name
    onnx.save(proto, copy)
    return copy


def _ir(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    from compress.ir import ov, read_ir

    model = read_ir(path)
    shapes = [entry.partial_shape for entry in model.inputs]
    if len(shapes) != 1 or shapes[0].rank.is_dynamic or len(shapes[0]) != 4:
        raise UserError(
            f"{path} takes {', '.join(map(str, shapes))}; expected one input "
            "(batch, channels, height, width)."
        )
    known = [None if dim.is_dynamic else dim.get_length() for dim in shapes[0]]
    height, width = _checked(path, known, size, batch)
    if known[2:] == [height, width]:
        return path
    model.reshape(ov.PartialShape([-1 if known[0] is None else known[0], 3, height, width]))
    copy = folder / path.name
    ov.serialize(model, copy)
    return copy


def _checked(
    path: Path, known: Sequence[int | None], size: int | None, batch: int
) -> tuple[int, int]:
    """Height and width, from the file or, where it leaves them free, as asked."""
    its_batch, channels, height, width = known
    if channels not in (None, 3):
        raise UserError(f"{path} takes {channels} channels; a picture has 3.")
    if its_batch not in (None, batch):
        raise UserError(f"{path} takes {its_batch} pictures a call: give --batch {its_batch}.")
    if height is None or width is None:
        if size is None:
            raise UserError(f"{path} leaves height and width free: give --size, e.g. --size 224.")
        return height or size, width or size
    if size is not None and (height, width) != (size, size):
        raise UserError(
            f"{path} takes pictures of {height} × {width}: --size is for models that leave it free."
        )
    return height, width


def read_photographs(pipeline: Path, files: Sequence[Path]) -> tuple[list[bytes], tuple[int, int]]:
    """The contents of picture files, and width and height of the largest, upright.

    Raises:
        UserError: none, or one that is missing or no picture.
    """
    if not files:
        raise UserError(
            f"{pipeline} is a pipeline, which is timed from a picture file to the answer: give "
            f"photographs, compress profile {pipeline} PICTURE…"
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


def built(name: str, size: int | None, allowed: Sequence[str]) -> Built:
    """Builds a network; never with weights, which might be downloaded.

    A detector is told to bring its pictures to `size`, where it can be told.

    Raises:
        UserError: no such builder, or one that does not build a network with these settings.
    """
    split_name(name, allowed)
    from compress.builders import build
    from compress.input_spec import InputSpec
    from compress.runtimes.torch_eager import is_detector

    builder = resolve(name, allowed)
    takes = inspect.signature(builder).parameters
    settings: dict[str, Any] = {k: None for k in ("weights", "weights_backbone") if k in takes}
    detector = ".detection" in name.partition(":")[0]
    if detector and size is not None:
        settings |= {"min_size": size, "max_size": max(size, 1333)}
    classes = DETECTOR_CLASSES if detector else CLASSES
    with torch_seed(0, "weights"):
        model = build(name, settings, classes, allowed).eval()
    size = size or (DETECTOR_SIZE if detector else SIZE)
    spec = InputSpec(
        height=size,
        width=size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        classes=tuple(map(str, range(classes))),
    )
    return Built(model, name, settings, spec, is_detector(model))
