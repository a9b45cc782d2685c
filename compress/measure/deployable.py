"""A user's file in the form that a profile needs: inputs of known shapes, named nodes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from compress.measure.inputs import shapes_of
from compress.models.onnx_faults import real_inputs, sizes_of
from compress.runtimes import Entry
from compress.runtimes.base import Size
from compress.runtimes.images import layout_of
from compress.utils.errors import UserError
from compress.utils.settings import sides


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


def as_deployed(path: Path, size: int | Size | None, batch: int, folder: Path) -> Path:
    """The file itself; a copy in `folder` where it leaves open what a profile needs to know.

    Its inputs may be of any number, type and shape.

    Args:
        size: pixels of a side, or height and width, of images whose size the file leaves free.

    Raises:
        UserError: missing, damaged, of another size or batch than asked, or with inputs whose
            shapes nobody says.
    """
    if not path.is_file():
        raise UserError(f"No model at {path}.")
    asked = None if size is None else sides(size)
    return (_ir if path.suffix == ".xml" else _onnx)(path, asked, batch, folder)


def _onnx(path: Path, asked: Size | None, batch: int, folder: Path) -> Path:
    sized = with_size(path, asked, folder)
    proto = _read(sized)
    inputs = [Entry(x.name, "", tuple(sizes_of(x))) for x in real_inputs(proto.graph)]
    _check(inputs, path, asked, batch)
    nodes = [node.name for node in proto.graph.node]
    if len(set(nodes)) == len(nodes) and "" not in nodes:
        return sized
    for number, node in enumerate(proto.graph.node):  # the runtime's profile knows kernels by name
        node.name = f"{node.op_type}_{number}"
    copy = folder / path.name
    folder.mkdir(exist_ok=True)
    onnx.save(proto, copy)
    return copy


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # the parser's and the loader's exceptions share no base class
        raise UserError(f"{path} is no ONNX file, or is cut short: {error}.") from error


def _ir(path: Path, asked: Size | None, batch: int, folder: Path) -> Path:
    from compress.runtimes.openvino_ir import ov, read_ir, reshape

    model = read_ir(path)
    known = [_sizes(entry.partial_shape) for entry in model.inputs]
    wanted = [[-1 if n is None else n for n in shape] for shape in known]
    for shape in wanted:
        if asked is not None and len(shape) == 4:
            _fill(shape, asked)
    names = [min(entry.get_names(), default=str(i)) for i, entry in enumerate(model.inputs)]
    filled = [tuple(None if n < 0 else n for n in shape) for shape in wanted]
    inputs = [Entry(name, "", shape) for name, shape in zip(names, filled, strict=True)]
    shapes = _check(inputs, path, asked, batch)
    if len(shapes) == 1 and known[0] and known[0][0] is None:  # its batch is what it is run with
        shapes = [(-1, *shapes[0][1:])]
    if shapes == [tuple(-1 if n is None else n for n in shape) for shape in known]:
        return path
    reshape(model, {i: ov.PartialShape(list(shape)) for i, shape in enumerate(shapes)}, path)
    copy = folder / path.name
    folder.mkdir(exist_ok=True)
    ov.serialize(model, copy)
    return copy


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """Return an OpenVINO shape's numbers; None: free."""
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if dim.is_dynamic else dim.get_length() for dim in shape)


def _check(
    inputs: Sequence[Entry], path: Path, asked: Size | None, batch: int
) -> list[tuple[int, ...]]:
    """Return the shapes that a file is run with.

    Raises:
        UserError: numbers that it leaves free and nobody gives, or others than it takes.
    """
    sizes = []
    for entry in inputs:
        if len(entry.shape) == 4:
            first = 1 if layout_of(entry.shape) == "nhwc" else 2
            sizes.append(entry.shape[first : first + 2])
    if asked is not None and asked not in sizes:
        raise UserError(
            f"{path} takes {', '.join(map(str, inputs)) or 'nothing'}: --size is for models "
            "that leave it free."
        )
    try:
        return shapes_of(inputs, batch)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
