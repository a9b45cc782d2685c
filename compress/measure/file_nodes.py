"""What a model file asks to be computed: its nodes with their work, whatever runs them."""

import re
from pathlib import Path

import onnx
from onnx import numpy_helper

from compress.measure.macs import CONVOLUTIONS, WEIGHTS, macs_by_node
from compress.models.onnx_graph import module_of
from compress.runtimes import runtime_for, runtime_named
from compress.runtimes.nodes import LINEAR, Node, convolution


def read_network(path: Path, batch: int) -> list[Node]:
    """The nodes of an ONNX file, or of one in a runtime's own format, in an order of computing."""
    own = runtime_named(runtime_for(path))
    return own.nodes(path, batch) if own.own_format else _from_onnx(path, batch)


def _from_onnx(path: Path, batch: int) -> list[Node]:
    proto = onnx.load(path)
    weights = {t.name: t for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            weights[node.output[0]] = node.attribute[0].t
    sizes = {name: numpy_helper.to_array(tensor).nbytes for name, tensor in weights.items()}
    return [
        Node(
            name=node.name or node.output[0],
            operation=_operation(node, weights),
            module=_module(node),
            macs=macs,
            weight_bytes=sum(sizes.get(name, 0) for name in node.input),
            inputs=tuple(name for name in node.input if name and name not in weights),
            outputs=tuple(node.output),
        )
        for node, macs in macs_by_node(proto, batch)
        if node.op_type != "Constant"
    ]


def _operation(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> str:
    if node.op_type in CONVOLUTIONS:
        facts = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        return convolution(facts.get("kernel_shape", ()), facts.get("group", 1))
    if node.op_type not in WEIGHTS:
        return str(node.op_type)
    weight = node.input[WEIGHTS[node.op_type]]
    # Quantized weights come through a node that makes them float.
    return LINEAR if weight in weights or ".weight" in weight else "MatMul"


def _module(node: onnx.NodeProto) -> str | None:
    """From the weight's name, what the exporter noted, or a name that looks like a path."""
    for name in node.input[1:]:
        if found := re.match(r"(.+)\.weight", name):
            return found[1]
    return module_of(node) or _from_path(node.name)


def _from_path(name: str) -> str | None:
    """/layer1/layer1.0/conv1/Conv -> layer1.0.conv1: a part that the next one begins with goes."""
    if not name.startswith("/"):
        return None
    parts = name.split("/")[1:-1]
    pairs = zip(parts, [*parts[1:], ""], strict=False)
    kept = [part for part, following in pairs if not following.startswith(f"{part}.")]
    return ".".join(kept) or None
