"""A user's file in the form that a profile needs: one input, a known size, named nodes."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from compress.utils.errors import UserError


def as_deployed(path: Path, size: int | None, batch: int, folder: Path) -> Path:
    """The file itself; a copy in `folder` where it leaves open what a profile needs to know.

    Raises:
        UserError: missing, damaged, of another size or batch than asked, no image model.
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
    from compress.runtimes.openvino_ir import ov, read_ir

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
    batch_there = -1 if known[0] is None else known[0]
    model.reshape(ov.PartialShape([batch_there, known[1] or 3, height, width]))
    copy = folder / path.name
    ov.serialize(model, copy)
    return copy


def _checked(
    path: Path, known: Sequence[int | None], size: int | None, batch: int
) -> tuple[int, int]:
    """Height and width, from the file or, where it leaves them free, as asked."""
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
