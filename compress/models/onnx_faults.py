"""What makes somebody's ONNX file no teacher, found in its graph, each in a sentence.

In training mode it is no deployed file either.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from compress.runtimes.images import layout_of
from compress.utils.errors import UserError

# What images can be fed as.
TYPES = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE,
    TensorProto.UINT8,
)  # fmt: skip
# What the domains begin with whose operators onnxruntime has; that of ONNX's own is mostly empty.
DOMAINS = ("ai.onnx", "com.microsoft")
# Beside all whose names begin with QLinear or end in Integer.
QUANTIZED = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QGemm", "QAttention",
    "MatMulNBits", "GatherBlockQuantized",
)  # fmt: skip


def fault_of(model: onnx.ModelProto) -> str | None:
    """Return why a file cannot be a teacher, and what to do; None: as far as its graph tells."""
    nodes = list(all_nodes(model.graph))
    for node in nodes:
        kind = node.op_type
        if kind in QUANTIZED or kind.startswith("QLinear") or kind.endswith("Integer"):
            return (
                f"is int8 already ({kind} {node.name!r}): give the float file that it was made from"
            )
    return (
        _foreign(model, nodes)
        or _training(model.graph, nodes)
        or _input_fault(real_inputs(model.graph))
    )


def refuse_training(path: Path) -> None:
    """Refuse a file that was exported in training mode: any runtime runs it, and answers otherwise.

    Weights in files beside it are not read; what is no ONNX file is for the runtime to tell.

    Raises:
        UserError: that.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # protobuf's and onnx's exceptions share no base class
        return
    if fault := _training(graph, list(all_nodes(graph))):
        raise UserError(f"{path} {fault}.")


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that must be fed: old exporters list the weights among them."""
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [entry for entry in graph.input if entry.name not in weights]


def sizes_of(entry: onnx.ValueInfoProto) -> list[int | None]:
    """Return an input's sizes; None: free, which some exporters write as -1."""
    dims = entry.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims]


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes, also those of the graphs inside of them (If, Loop)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def _foreign(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> str | None:
    """Return which operator is neither known nor defined in the file."""
    defined = {(function.domain, function.name) for function in model.functions}
    for node in nodes:
        known = not node.domain or node.domain.startswith(DOMAINS)
        if not known and (node.domain, node.op_type) not in defined:
            named = f", node {node.name!r}" * bool(node.name)
            return (
                f"has an operator that onnxruntime lacks ({node.op_type} of {node.domain!r}"
                f"{named}): export it with ONNX's own operators alone"
            )
    return None


def _training(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> str | None:
    """Return which operation computes as in training."""
    known = _constants(graph, nodes)
    for node in nodes:
        if _trains(node, known):
            return (
                f"was exported in training mode ({node.op_type} {node.name!r} does not compute as "
                "in deployment): export it after model.eval()"
            )
    return None


def _constants(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> dict[str, onnx.TensorProto]:
    """Return the constant tensors by name, but for those that lie in a file not read."""
    found = {x.name: x for x in graph.initializer if not uses_external_data(x)}
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return found


def _trains(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> bool:
    """Whether a node computes from the batch, or drops at random."""
    facts = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "BatchNormalization":
        # Before opset 14 it is the further outputs that say so, before 7 an attribute.
        return bool(facts.get("training_mode") or any(node.output[1:])) or facts.get("is_test") == 0
    if node.op_type != "Dropout":
        return False
    given = [known.get(name) for name in node.input[1:]]
    ratio, mode = [*given, None, None][:2]
    if ratio is not None and not numpy_helper.to_array(ratio).any():
        return False
    on = mode is not None and bool(numpy_helper.to_array(mode).any())
    return on or facts.get("is_test") == 0


def _input_fault(inputs: list[onnx.ValueInfoProto]) -> str | None:
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs) or "nothing"
        return f"takes {names}: a teacher takes images alone, export it with the others built in"
    (entry,) = inputs
    dims, of = sizes_of(entry), entry.type.tensor_type.elem_type
    if len(dims) != 4:
        shown = ", ".join("?" if n is None else str(n) for n in dims)
        return f"takes {entry.name} ({shown}); expected (batch, channels, height, width)"
    if layout_of(dims) == "nchw" and dims[1] not in (1, 3, None):
        return f"takes {dims[1]} channels; an image has 3, or 1 in grey"
    if of not in TYPES:
        name = TensorProto.DataType.Name(of).lower()
        return f"takes {name}: export it with an input of float32, or of bytes (uint8)"
    return None
