"""A user's file in the form that a profile needs: one input, a known size, named nodes."""

import re
from collections.abc import Sequence
from pathlib import Path

import onnx

from compress.models.onnx_faults import real_inputs, sizes_of
from compress.runtimes.base import Size
from compress.runtimes.images import layout_of
from compress.utils.errors import UserError


def height_and_width(text: str) -> Size:
    """Return what people say of a size: "224" of a square, or "480x640".

    Raises:
        UserError: something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", text.strip().lower())
    if found is None:
        raise UserError(f"--size {text}: give pixels, 224, or height x width, 480x640.")
    return int(found[1]), int(found[2] or found[1])


def with_size(path: Path, size: Size | None, folder: Path) -> Path:
    """The file itself; a copy in `folder` where it leaves height or width of images free.

    Raises:
        UserError: missing or damaged.
    """
    if size is None:
        return path
    copy = folder / path.name
    if path.suffix == ".xml":
        from compress.runtimes.openvino_ir import ov, read_ir, reshape

        model = read_ir(path)
        shapes = {
            i: [-1 if n.is_dynamic else n.get_length() for n in entry.partial_shape]
            for i, entry in enumerate(model.inputs)
            if entry.partial_shape.rank.is_static and len(entry.partial_shape) == 4
        }
        if not any([_fill(shape, size) for shape in shapes.values()]):
            return path
        reshape(model, {i: ov.PartialShape(shape) for i, shape in shapes.items()}, path)
        folder.mkdir(exist_ok=True)
        ov.serialize(model, copy)
        return copy
    proto = _read(path)
    changed = False
    for entry in real_inputs(proto.graph):
        dims = entry.type.tensor_type.shape.dim
        shape = [-1 if n is None else n for n in sizes_of(entry)]
        if len(shape) == 4 and _fill(shape, size):
            changed = True
            for dim, number in zip(dims, shape, strict=True):
                if number > 0:
                    dim.dim_value = number
    if not changed:
        return path
    del proto.graph.value_info[:]
    folder.mkdir(exist_ok=True)
    onnx.save(proto, copy)
    return copy


def _fill(shape: list[int], size: Size) -> bool:
    """Put height and width into an image's shape where they are free (-1); say whether they were.

    Channels stand first, unless only the last number can be theirs.
    """
    first = 1 if layout_of(shape) == "nhwc" else 2
    free = [i for i in (first, first + 1) if shape[i] < 1]
    for i in free:
        shape[i] = size[i - first]
    return bool(free)


def as_deployed(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    """The file itself; a copy in `folder` where it leaves open what a profile needs to know.

    Raises:
        UserError: missing, damaged, of another size or batch than asked, no image model.
    """
    if not path.is_file():
        raise UserError(f"No model at {path}.")
    return (_ir if path.suffix == ".xml" else _onnx)(path, size, batch, folder)


def _onnx(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    proto = _read(path)
    entries = real_inputs(proto.graph)
    dims = entries[0].type.tensor_type.shape.dim if entries else []
    if len(entries) != 1 or len(dims) != 4:
        names = ", ".join(entry.name for entry in entries) or "nothing"
        raise UserError(
            f"{path} takes {names}; expected one input (batch, channels, height, width)."
        )
    known = sizes_of(entries[0])
    first = 1 if layout_of(known) == "nhwc" else 2
    height, width = _checked(path, known, size, batch)
    changed = known[first : first + 2] != [height, width]
    if changed:
        dims[first].dim_value, dims[first + 1].dim_value = height, width
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


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # the parser's and the loader's exceptions share no base class
        raise UserError(f"{path} is no ONNX file, or is cut short: {error}.") from error


def _ir(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    from compress.runtimes.openvino_ir import ov, read_ir, reshape

    model = read_ir(path)
    shapes = [entry.partial_shape for entry in model.inputs]
    if len(shapes) != 1 or shapes[0].rank.is_dynamic or len(shapes[0]) != 4:
        raise UserError(
            f"{path} takes {', '.join(map(str, shapes))}; expected one input "
            "(batch, channels, height, width)."
        )
    known = [None if dim.is_dynamic else dim.get_length() for dim in shapes[0]]
    height, width = _checked(path, known, size, batch)
    last = layout_of(known) == "nhwc"
    if known[1 if last else 2 :][:2] == [height, width]:
        return path
    batch_there = -1 if known[0] is None else known[0]
    sides = [height, width, known[3]] if last else [known[1] or 3, height, width]
    reshape(model, {0: ov.PartialShape([batch_there, *sides])}, path)
    copy = folder / path.name
    ov.serialize(model, copy)
    return copy


def _checked(
    path: Path, known: Sequence[int | None], size: int | None, batch: int
) -> tuple[int, int]:
    """Height and width, from the file or, where it leaves them free, as asked."""
    if layout_of(known) == "nhwc":
        its_batch, height, width, channels = known
    else:
        its_batch, channels, height, width = known
    if channels not in (None, 1, 3):
        raise UserError(f"{path} takes {channels} channels; an image has 3, or 1 in grey.")
    if its_batch not in (None, batch):
        raise UserError(f"{path} takes {its_batch} images a call: give --batch {its_batch}.")
    if height is None or width is None:
        if size is None:
            raise UserError(f"{path} leaves height and width free: give --size, e.g. --size 224.")
        return height or size, width or size
    if size is not None and (height, width) != (size, size):
        raise UserError(
            f"{path} takes images of {height} × {width}: --size is for models that leave it free."
        )
    return height, width
